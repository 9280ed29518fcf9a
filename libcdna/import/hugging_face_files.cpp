// Which files of a Hugging Face folder become assets, and why the others do not.
#include <algorithm>
#include <array>

#include "libcdna/import/hugging_face.hpp"

namespace cdna {
namespace {

struct KnownName {
  std::string_view ending;
  FileUse use;
};

constexpr std::string_view kWeights = "weights in another format; only safetensors files are read";
constexpr std::string_view kCode = "program code, which is never part of a model";

// In order: the first ending that fits decides.
constexpr std::array kEndings{
    KnownName{".index.json", {"", "an index of weight files that are not in use"}},
    KnownName{".json", {"application/json", ""}},
    KnownName{".txt", {"text/plain", ""}},
    KnownName{".jinja", {"text/plain", ""}},
    KnownName{".md", {"text/markdown", ""}},
    KnownName{".model", {"application/octet-stream", ""}},     // SentencePiece.
    KnownName{".spm", {"application/octet-stream", ""}},       // SentencePiece, of Marian models.
    KnownName{".tiktoken", {"application/octet-stream", ""}},  // Vocabulary of Qwen 1 and others.
    KnownName{".safetensors", {"", "a safetensors file that is not in use"}},
    KnownName{".bin", {"", kWeights}},
    KnownName{".pt", {"", kWeights}},
    KnownName{".pth", {"", kWeights}},
    KnownName{".ckpt", {"", kWeights}},
    KnownName{".gguf", {"", kWeights}},
    KnownName{".h5", {"", kWeights}},
    KnownName{".msgpack", {"", kWeights}},
    KnownName{".onnx", {"", kWeights}},
    KnownName{".npz", {"", kWeights}},
    KnownName{".cdna", {"", "a CDNA file"}},
    KnownName{".py", {"", kCode}},
    KnownName{".so", {"", kCode}},
};

// Names of files that often have no ending. Compared without regard to case.
constexpr std::array kBeginnings{
    KnownName{"license", {"text/plain", ""}},
    KnownName{"notice", {"text/plain", ""}},
    KnownName{"merges", {"application/octet-stream", ""}},
    KnownName{"vocab", {"application/octet-stream", ""}},
};

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool begins_with(std::string_view name, std::string_view beginning) {
  return name.size() >= beginning.size() &&
         std::equal(beginning.begin(), beginning.end(), name.begin(), [](char a, char b) { return a == lower(b); });
}

}  // namespace

FileUse use_of(std::string_view name) {
  if (name.starts_with('.')) return {"", "hidden"};
  for (const KnownName& row : kEndings) {
    if (name.ends_with(row.ending)) return row.use;
  }
  for (const KnownName& row : kBeginnings) {
    if (begins_with(name, row.ending)) return row.use;
  }
  return {"", "not a kind of file that belongs to a model"};
}

}  // namespace cdna
