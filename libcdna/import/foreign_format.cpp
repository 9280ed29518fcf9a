// The table of first bytes of formats that are not read, each with a way out.
#include "libcdna/import/foreign_format.hpp"

#include <array>

namespace cdna {
namespace {

using namespace std::string_view_literals;

struct Signature {
  std::string_view magic;
  std::string_view message;
};

constexpr std::string_view kPickle =
    "a pickle, as torch.save once wrote: loading one can run any code, so it is not read; save it as safetensors";

constexpr std::array kTable{
    Signature{"PK\x03\x04"sv,
              "a zip archive, as torch.save (of a pickle) and numpy.savez write: loading a pickle can run "
              "any code, so it is not read; save it as safetensors"},
    Signature{"\x80\x02"sv, kPickle},
    Signature{"\x80\x03"sv, kPickle},
    Signature{"\x80\x04"sv, kPickle},
    Signature{"\x80\x05"sv, kPickle},
    Signature{"HXZO"sv, "an outlier sidecar; give it together with the file of its tensor"},
    Signature{"GGUF"sv, "a GGUF file, not safetensors; ask for the format gguf"},
    Signature{"\xCD"
              "CDNA\r\n\x1A"sv,
              "already a CDNA file"},
    Signature{"version https://git-lfs."sv, "a Git LFS pointer, not the file itself; fetch it with `git lfs pull`"},
    Signature{"\x89HDF\r\n\x1A\n"sv, "an HDF5 file, not safetensors"},
    Signature{"\x93NUMPY"sv, "a NumPy array; save it as safetensors"},
    Signature{"\x1F\x8B"sv, "a gzip file; unpack it first"},
    Signature{"{"sv, "JSON text, not safetensors; for a model in several files, give its folder"},
};

}  // namespace

std::string_view describe_foreign_format(std::span<const std::byte> head) {
  const std::string_view text(reinterpret_cast<const char*>(head.data()), head.size());
  for (const Signature& row : kTable) {
    if (text.starts_with(row.magic)) return row.message;
  }
  return {};
}

}  // namespace cdna
