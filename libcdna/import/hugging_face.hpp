// Folders in the layout of the Hugging Face Hub: config.json, safetensors files, tokenizer and licence beside them.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "cdna/error.hpp"
#include "cdna/file_system.hpp"
#include "cdna/import.hpp"

namespace cdna {

// Opens one file, and says of files in other formats what they are. Errors: those of open_model.
Result<std::unique_ptr<Model>> open_safetensors_file(const std::string& path, FileSystem& file_system);

// Opens a folder; open_model has the rules. Symbolic links are followed where they hold weights; assets only to
// files of the folder and blobs of the Hub's cache, where every file is such a link: a folder of unknown origin must
// not carry other files of this machine along.
Result<std::unique_ptr<Model>> open_hugging_face(const std::string& path, FileSystem& file_system);

// What becomes of a file that holds no weights in use.
struct FileUse {
  std::string_view media_type;  // Of an asset; "" when the file is not kept.
  std::string_view reason;      // Why it is not kept.
};

// Decides by the name alone.
FileUse use_of(std::string_view name);

}  // namespace cdna
