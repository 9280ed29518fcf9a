// The files of a .cdnav3 folder by name, wherever they lie.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/file_system.hpp"
#include "cdna/source.hpp"

namespace cdna {

// Const methods may be called from any thread.
class TensorFiles {
 public:
  virtual ~TensorFiles() = default;
  virtual bool has(std::string_view name) const = 0;
  // Errors: io, not_found, malformed (no regular file).
  virtual Result<std::unique_ptr<Source>> open(const std::string& name) const = 0;
  virtual std::string path_of(const std::string& name) const = 0;  // For messages.
};

// Of a folder, which is listed now and not kept open. Errors: io.
Result<std::shared_ptr<const TensorFiles>> open_tensor_files(const std::string& path, FileSystem& file_system);

// A whole file of at most `size_max` bytes. Errors: those of open(), limit.
Result<std::string> read_text(const TensorFiles& files, const std::string& name, std::uint64_t size_max);

}  // namespace cdna
