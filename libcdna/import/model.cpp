// Opens what a path names, by the format that its content shows.
#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "cdna/import.hpp"
#include "libcdna/import/folder.hpp"
#include "libcdna/import/foreign_format.hpp"
#include "libcdna/import/helix/helix_model.hpp"
#include "libcdna/import/hugging_face.hpp"
#include "libcdna/import/numpy/numpy_model.hpp"
#include "libcdna/import/safetensors_header.hpp"
#include "libcdna/io/descriptor.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

using namespace std::string_view_literals;

constexpr std::array<std::string_view, 11> kFormatNames{
    "auto", "safetensors", "hxq", "hxzc", "hxz2", "helix-v2", "helix-v3", "gguf", "gguf-hxq", "npy", "npz"};

constexpr std::array<ModelFormat, kFormatNames.size()> kFormats = [] {
  std::array<ModelFormat, kFormatNames.size()> formats;
  for (std::size_t i = 0; i < formats.size(); ++i) formats[i] = static_cast<ModelFormat>(i);
  return formats;
}();

struct Magic {
  std::string_view bytes;
  ModelFormat format;
};

constexpr std::array kMagics{
    Magic{"HXZC"sv, ModelFormat::hxzc},      Magic{"HXZ2"sv, ModelFormat::hxz2},
    Magic{"\x93NUMPY"sv, ModelFormat::npy},  Magic{"PK\x03\x04"sv, ModelFormat::npz},
    Magic{"PK\x05\x06"sv, ModelFormat::npz},
};

// What a file begins as; safetensors when as nothing else.
Result<ModelFormat> detect_format(const std::string& path, FileSystem& file_system) {
  const auto source = CDNA_TRY(open_source(path, Io::pread, file_system));
  std::array<char, 16> head{};
  const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(head.size(), source->size_bytes()));
  if (size > 0) CDNA_TRY(source->read_at(0, std::as_writable_bytes(std::span(head).first(size))));
  const std::string_view text(head.data(), size);
  // A length below 2^32 and the header's first byte.
  if (text.substr(std::min<std::size_t>(4, size)).starts_with("\0\0\0\0{"sv)) return ModelFormat::safetensors;
  for (const Magic& magic : kMagics) {
    if (text.starts_with(magic.bytes)) return magic.format;
  }
  return ModelFormat::safetensors;
}

// The file's name without folders and ending.
std::string stem_of(const std::string& path) {
  const std::string name = path.substr(path.rfind('/') + 1);
  const std::size_t dot = name.rfind('.');
  return dot == std::string::npos || dot == 0 ? name : name.substr(0, dot);
}

// Refuses other formats by their names. What is safetensors at all is for open_safetensors to say.
Result<void> check_format(const Source& source) {
  std::array<std::byte, kForeignHeadBytes> head{};
  const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(head.size(), source.size_bytes()));
  CDNA_CHECK(size > 0, Code::malformed, "", "the file is empty");
  CDNA_TRY(source.read_at(0, std::span(head).first(size)));
  // A length over the header's limit is that of no header: what else the bytes could be comes first.
  const bool is_long =
      std::any_of(head.begin() + 4, head.begin() + 8, [](std::byte byte) { return byte != std::byte{0}; });
  if (size > kSafetensorsLengthBytes && head[kSafetensorsLengthBytes] == std::byte{'{'} && !is_long) return {};
  const std::string_view foreign = describe_foreign_format(std::span(head).first(size));
  CDNA_CHECK(foreign.empty(), Code::unsupported, "", std::string(foreign), 0);
  return {};
}

}  // namespace

Result<std::unique_ptr<Model>> open_safetensors_file(const std::string& path, FileSystem& file_system) {
  // pread: read() copies in any case, and a source that is cut off meanwhile is then an error instead of a signal.
  std::unique_ptr<Source> source = CDNA_TRY(open_source(path, Io::pread, file_system));
  auto known = check_format(*source);
  if (known) return open_safetensors(std::move(source));
  if (known.error().file.empty()) known.error().file = path;
  return known.error();
}

Result<HeldPlanes> Model::read_planes(std::size_t tensor) const {
  Error error = fail(Code::bad_argument, "", "the model holds no codes of this tensor");
  error.item = tensors()[tensor].name;
  return error;
}

std::string_view name_of(ModelFormat format) { return kFormatNames[static_cast<std::size_t>(format)]; }

std::span<const ModelFormat> model_formats() { return kFormats; }

std::optional<ModelFormat> parse_model_format(std::string_view name) {
  const auto* const found = std::find(kFormatNames.begin(), kFormatNames.end(), name);
  if (found == kFormatNames.end()) return std::nullopt;
  return static_cast<ModelFormat>(found - kFormatNames.begin());
}

namespace {

Error not_read_as(ModelFormat format, const std::string& path) {
  Error error = fail(Code::unsupported, "", "not read as " + std::string(name_of(format)));
  error.file = path;
  return error;
}

Result<std::unique_ptr<Model>> open_npz_file(const std::string& path, FileSystem& file_system) {
  auto source = CDNA_TRY(open_source(path, Io::pread, file_system));
  return open_npz_model(std::move(source));
}

Result<std::unique_ptr<Model>> open_npy_file(const std::string& path, FileSystem& file_system) {
  auto source = CDNA_TRY(open_source(path, Io::pread, file_system));
  return open_npy_model(std::move(source), stem_of(path));
}

Result<std::unique_ptr<Model>> open_file(const std::string& path, const ModelOptions& options,
                                         FileSystem& file_system) {
  const bool detects = options.format == ModelFormat::detect;
  const ModelFormat format = detects ? CDNA_TRY(detect_format(path, file_system)) : options.format;
  const bool takes_sidecar = format == ModelFormat::hxzc || format == ModelFormat::hxz2;
  CDNA_CHECK(options.sidecar.empty() || takes_sidecar, Code::bad_argument, "",
             "sidecar: only hxzc and hxz2 files have one, this is " + std::string(name_of(format)));
  if (takes_sidecar) return open_hxz_file(path, options.sidecar, file_system);
  if (format == ModelFormat::npy) return open_npy_file(path, file_system);
  if (format == ModelFormat::npz) return open_npz_file(path, file_system);
  if (format == ModelFormat::safetensors) return open_safetensors_file(path, file_system);
  return not_read_as(format, path);
}

Result<std::unique_ptr<Model>> open_folder(const std::string& path, const ModelOptions& options,
                                           FileSystem& file_system) {
  CDNA_CHECK(options.sidecar.empty(), Code::bad_argument, "",
             "sidecar: only hxzc and hxz2 files have one, this is a folder");
  const Folder folder = CDNA_TRY(Folder::open(path, file_system));
  const bool detects = options.format == ModelFormat::detect;
  if (options.format == ModelFormat::helix_v2) return open_helix_v2(folder);
  if (detects && CDNA_TRY(is_helix_v2_folder(folder))) return open_helix_v2(folder);
  if (detects || options.format == ModelFormat::safetensors) return open_hugging_face(path, file_system);
  return not_read_as(options.format, path);
}

}  // namespace

Result<std::unique_ptr<Model>> open_model(const std::string& path, const ModelOptions& options,
                                          FileSystem& file_system) {
  return no_throw([&]() -> Result<std::unique_ptr<Model>> {
    struct stat status {};
    const int result = retrying(file_system, &FileSystem::fstatat, AT_FDCWD, path.c_str(), &status, 0);
    // What is not there is for open_source to say.
    if (result < 0 && result != -ENOENT) return fail_io("cannot look at the model", result, path);
    const bool is_folder = result == 0 && S_ISDIR(status.st_mode);
    return is_folder ? open_folder(path, options, file_system) : open_file(path, options, file_system);
  });
}

}  // namespace cdna
