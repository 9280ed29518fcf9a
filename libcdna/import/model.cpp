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

Result<std::unique_ptr<Model>> open_model(const std::string& path, FileSystem& file_system) {
  return no_throw([&]() -> Result<std::unique_ptr<Model>> {
    struct stat status {};
    const int result = retrying(file_system, &FileSystem::fstatat, AT_FDCWD, path.c_str(), &status, 0);
    // What is not there is for open_source to say.
    if (result < 0 && result != -ENOENT) return fail_io("cannot look at the model", result, path);
    const bool is_folder = result == 0 && S_ISDIR(status.st_mode);
    return is_folder ? open_hugging_face(path, file_system) : open_safetensors_file(path, file_system);
  });
}

}  // namespace cdna
