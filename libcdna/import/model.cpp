// Opens what a path names: a safetensors file or a Hugging Face folder.
#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "cdna/import.hpp"
#include "libcdna/import/foreign_format.hpp"
#include "libcdna/import/hugging_face.hpp"
#include "libcdna/import/safetensors_header.hpp"
#include "libcdna/io/descriptor.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::array<std::string_view, 11> kFormatNames{
    "auto", "safetensors", "hxq", "hxzc", "hxz2", "helix-v2", "helix-v3", "gguf", "gguf-hxq", "npy", "npz"};

constexpr std::array<ModelFormat, kFormatNames.size()> kFormats = [] {
  std::array<ModelFormat, kFormatNames.size()> formats;
  for (std::size_t i = 0; i < formats.size(); ++i) formats[i] = static_cast<ModelFormat>(i);
  return formats;
}();

// Refuses other formats by their names. What is safetensors at all is for open_safetensors to say.
Result<void> check_format(const Source& source) {
  std::array<std::byte, kForeignHeadBytes> head{};
  const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(head.size(), source.size_bytes()));
  CDNA_CHECK(size > 0, Code::malformed, "", "the file is empty");
  CDNA_TRY(source.read_at(0, std::span(head).first(size)));
  if (size > kSafetensorsLengthBytes && head[kSafetensorsLengthBytes] == std::byte{'{'}) return {};
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

Result<std::unique_ptr<Model>> open_model(const std::string& path, const ModelOptions& options,
                                          FileSystem& file_system) {
  return no_throw([&]() -> Result<std::unique_ptr<Model>> {
    CDNA_CHECK(options.format == ModelFormat::detect || options.format == ModelFormat::safetensors, Code::unsupported,
               "", std::string(name_of(options.format)) + " is not read");
    struct stat status {};
    const int result = retrying(file_system, &FileSystem::fstatat, AT_FDCWD, path.c_str(), &status, 0);
    // What is not there is for open_source to say.
    if (result < 0 && result != -ENOENT) return fail_io("cannot look at the model", result, path);
    const bool is_folder = result == 0 && S_ISDIR(status.st_mode);
    return is_folder ? open_hugging_face(path, file_system) : open_safetensors_file(path, file_system);
  });
}

}  // namespace cdna
