// Opens what a path names, as what it is or what the caller says.
#include <fcntl.h>

#include <algorithm>
#include <array>
#include <utility>

#include "cdna/import.hpp"
#include "libcdna/import/detect.hpp"
#include "libcdna/import/folder.hpp"
#include "libcdna/import/foreign_format.hpp"
#include "libcdna/import/gguf/gguf.hpp"
#include "libcdna/import/helix/helix_model.hpp"
#include "libcdna/import/helix/hxq.hpp"
#include "libcdna/import/helix/v3_folder.hpp"
#include "libcdna/import/hugging_face.hpp"
#include "libcdna/import/numpy/numpy_model.hpp"
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

constexpr std::string_view kNoSidecar = "sidecar: only of hxzc and hxz2";

// What is opened, and how.
struct Request {
  const std::string& path;
  bool is_folder;
  const ModelOptions& options;
  FileSystem& file_system;
};

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

bool takes_folders(ModelFormat format) {
  return format == ModelFormat::safetensors || format == ModelFormat::hxq || format == ModelFormat::helix_v2 ||
         format == ModelFormat::helix_v3;
}

bool takes_files(ModelFormat format) { return format != ModelFormat::helix_v2 && format != ModelFormat::helix_v3; }

// Options are for formats that have a use for them.
Result<void> check_options(const ModelOptions& options, ModelFormat format) {
  const std::string is_other = ", this is " + std::string(name_of(format));
  const bool has_sidecar = format == ModelFormat::hxzc || format == ModelFormat::hxz2;
  CDNA_CHECK(options.sidecar.empty() || has_sidecar, Code::bad_argument, "", std::string(kNoSidecar) + is_other);
  const bool is_hxq = format == ModelFormat::hxq;
  CDNA_CHECK(options.skip.empty() || is_hxq || format == ModelFormat::helix_v3, Code::bad_argument, "",
             "skip: only of helix-v3 and hxq" + is_other);
  CDNA_CHECK(options.shapes.empty() || is_hxq, Code::bad_argument, "", "shapes: only of hxq" + is_other);
  return {};
}

// What has codebooks and indices is HXQ, whatever its configuration says.
Result<std::unique_ptr<Model>> open_hugging_face_or_hxq(const Request& request, ModelFormat format) {
  CDNA_CHECK(request.options.sidecar.empty(), Code::bad_argument, "", std::string(kNoSidecar));
  auto model = CDNA_TRY(request.is_folder ? open_hugging_face(request.path, request.file_system)
                                          : open_safetensors_file(request.path, request.file_system));
  if (request.options.format == ModelFormat::detect && has_hxq_modules(*model)) format = ModelFormat::hxq;
  CDNA_TRY(check_options(request.options, format));
  if (format != ModelFormat::hxq) return model;
  return open_hxq(std::move(model), request.path, request.is_folder, request.options, request.file_system);
}

Result<std::unique_ptr<Model>> open_hxz(const Request& request, ModelFormat format) {
  const ModelFormat found = CDNA_TRY(detect_file(request.path, request.file_system));
  CDNA_CHECK(found == format, Code::malformed, "",
             "the file does not begin as " + std::string(name_of(format)) + " does", 0);
  return open_hxz_file(request.path, request.options.sidecar, request.file_system);
}

Result<std::unique_ptr<Model>> open_as(const Request& request, ModelFormat format) {
  if (format == ModelFormat::safetensors || format == ModelFormat::hxq)
    return open_hugging_face_or_hxq(request, format);
  CDNA_TRY(check_options(request.options, format));
  switch (format) {
    case ModelFormat::hxzc:
    case ModelFormat::hxz2:
      return open_hxz(request, format);
    case ModelFormat::helix_v2: {
      const Folder folder = CDNA_TRY(Folder::open(request.path, request.file_system));
      return open_helix_v2(folder);
    }
    case ModelFormat::helix_v3:
      return open_v3_folder(request.path, request.options, request.file_system);
    case ModelFormat::npy: {
      auto source = CDNA_TRY(open_source(request.path, Io::pread, request.file_system));
      return open_npy_model(std::move(source), stem_of(request.path));
    }
    case ModelFormat::npz: {
      auto source = CDNA_TRY(open_source(request.path, Io::pread, request.file_system));
      return open_npz_model(std::move(source));
    }
    case ModelFormat::gguf_hxq:
      return open_gguf_file(request.path, GgufDialect::hxq, request.file_system);
    default:
      return open_gguf_file(request.path, GgufDialect::ggml, request.file_system);
  }
}

Result<std::unique_ptr<Model>> open_any(const Request& request) {
  ModelFormat format = request.options.format;
  if (format == ModelFormat::detect) {
    format = CDNA_TRY(request.is_folder ? detect_folder(request.path, request.file_system)
                                        : detect_file(request.path, request.file_system));
  }
  const bool fits = request.is_folder ? takes_folders(format) : takes_files(format);
  CDNA_CHECK(fits, Code::bad_argument, "",
             std::string(name_of(format)) +
                 (request.is_folder ? " is a file, and this a folder" : " is a folder, and this a file"));
  return open_as(request, format);
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
    struct stat status {};
    const int result = retrying(file_system, &FileSystem::fstatat, AT_FDCWD, path.c_str(), &status, 0);
    // What is not there is for open_source to say.
    if (result < 0 && result != -ENOENT) return fail_io("cannot look at the model", result, path);
    const bool is_folder = result == 0 && S_ISDIR(status.st_mode);
    auto model = open_any({path, is_folder, options, file_system});
    if (!model && model.error().file.empty()) model.error().file = path;
    return model;
  });
}

}  // namespace cdna
