// What a path names, told by its content.
#pragma once

#include <string>

#include "cdna/error.hpp"
#include "cdna/file_system.hpp"
#include "cdna/import.hpp"

namespace cdna {

// The format of a file or a folder; `safetensors` where it is nothing else: opening it says then what it is not. Never
// detect, hxq (which tensors tell) or gguf_hxq. Errors: io, not_found.
Result<ModelFormat> detect_file(const std::string& path, FileSystem& file_system);
Result<ModelFormat> detect_folder(const std::string& path, FileSystem& file_system);

}  // namespace cdna
