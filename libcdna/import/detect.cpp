// The first bytes of files, and what lies in folders.
#include "libcdna/import/detect.hpp"

#include <algorithm>
#include <array>
#include <string_view>

#include "libcdna/import/folder.hpp"
#include "libcdna/import/helix/helix_model.hpp"
#include "libcdna/import/helix/v3_folder.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

using namespace std::string_view_literals;

struct Magic {
  std::string_view bytes;
  ModelFormat format;
};

constexpr std::array kMagics{
    Magic{"HXZC"sv, ModelFormat::hxzc},      Magic{"HXZ2"sv, ModelFormat::hxz2},
    Magic{"GGUF"sv, ModelFormat::gguf},      Magic{"\x93NUMPY"sv, ModelFormat::npy},
    Magic{"PK\x03\x04"sv, ModelFormat::npz}, Magic{"PK\x05\x06"sv, ModelFormat::npz},
};

// Weights of the Hub come before those of helix-substrate, whose compressor writes beside them.
bool has_hub_weights(const Folder& folder) {
  return folder.has("config.json") &&
         std::any_of(folder.names().begin(), folder.names().end(),
                     [](const std::string& name) { return name.ends_with(".safetensors"); });
}

}  // namespace

Result<ModelFormat> detect_file(const std::string& path, FileSystem& file_system) {
  const auto source = CDNA_TRY(open_source(path, Io::pread, file_system));
  std::array<char, 16> head{};
  const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(head.size(), source->size_bytes()));
  if (size > 0) CDNA_TRY(source->read_at(0, std::as_writable_bytes(std::span(head).first(size))));
  const std::string_view text(head.data(), size);
  // A length below 2^32 and the header's first byte: the length may look like anything.
  if (text.substr(std::min<std::size_t>(4, size)).starts_with("\0\0\0\0{"sv)) return ModelFormat::safetensors;
  for (const Magic& magic : kMagics) {
    if (text.starts_with(magic.bytes)) return magic.format;
  }
  return ModelFormat::safetensors;
}

Result<ModelFormat> detect_folder(const std::string& path, FileSystem& file_system) {
  const Folder folder = CDNA_TRY(Folder::open(path, file_system));
  if (has_hub_weights(folder)) return ModelFormat::safetensors;
  if (is_v3_tensor(folder) || is_v3_folder(folder)) return ModelFormat::helix_v3;
  const bool is_v2 = CDNA_TRY(is_helix_v2_folder(folder));
  return is_v2 ? ModelFormat::helix_v2 : ModelFormat::safetensors;
}

}  // namespace cdna
