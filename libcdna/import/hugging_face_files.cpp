// Which files of a Hugging Face folder become assets, and why the others do not.
#include <algorithm>
#include <array>

#include "libcdna/import/hugging_face.hpp"

namespace cdna {
namespace {

struct Row {
  std::string_view ending;
  FileUse use;
};

constexpr std::string_view kWeights = "weights in another format; only safetensors files are read";
constexpr std::string_view kCode = "program code, which is never part of a model";

// In order: the first ending that fits decides.
constexpr std::array kEndings{
    Row{".index.json", {"", "an index of weight files that are not in use"}},
    Row{".json", {"application/json", ""}},
    Row{".txt", {"text/plain", ""}},
    Row{".jinja", {"text/plain", ""}},
    Row{".md", {"text/markdown", ""}},
    Row{".model", {"application/octet-stream", ""}},     // SentencePiece.
    Row{".spm", {"application/octet-stream", ""}},       // SentencePiece, of Marian models.
    Row{".tiktoken", {"application/octet-stream", ""}},  // Vocabulary of Qwen 1 and others.
    Row{".safetensors", {"", "a safetensors file that is not in use"}},
    Row{".bin", {"", kWeights}},
    Row{".pt", {"", kWeights}},
    Row{".pth", {"", kWeights}},
    Row{".ckpt", {"", kWeights}},
    Row{".gguf", {"", kWeights}},
    Row{".h5", {"", kWeights}},
    Row{".msgpack", {"", kWeights}},
    Row{".onnx", {"", kWeights}},
    Row{".npz", {"", kWeights}},
    Row{".cdna", {"", "a CDNA file"}},
    Row{".py", {"", kCode}},
    Row{".so", {"", kCode}},
};

// Names of files that often have no ending. Compared without regard to case.
constexpr std::array kBeginnings{
    Row{"license", {"text/plain", ""}},
    Row{"notice", {"text/plain", ""}},
    Row{"merges", {"application/octet-stream", ""}},
    Row{"vocab", {"application/octet-stream", ""}},
};

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool begins_with(std::string_view name, std::string_view beginning) {
  return name.size() >= beginning.size() &&
         std::equal(beginning.begin(), beginning.end(), name.begin(), [](char a, char b) { return a == lower(b); });
}

}  // namespace

FileUse use_of(std::string_view name) {
  if (name.starts_with('.')) return {"", "hidden"};
  for (const Row& row : kEndings) {
    if (name.ends_with(row.ending)) return row.use;
  }
  for (const Row& row : kBeginnings) {
    if (begins_with(name, row.ending)) return row.use;
  }
  return {"", "not a kind of file that belongs to a model"};
}

}  // namespace cdna
