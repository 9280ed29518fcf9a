// GGUF models: one file, or the parts of a split one.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/file_system.hpp"
#include "cdna/import.hpp"
#include "libcdna/import/gguf/header.hpp"

namespace cdna {

// A file that is open.
struct GgufPart {
  std::string name;  // File name without folders.
  std::unique_ptr<Source> source;
  GgufHeader header;
};

// Opens the GGUF file at `path`; of a split model (split.count, "NAME-00002-of-00005.gguf") all parts, whichever is
// named. Errors: those of open_model.
Result<std::unique_ptr<Model>> open_gguf_file(const std::string& path, GgufDialect dialect, FileSystem& file_system);

// Opens one GGUF file over any source; it must not be part of a split one (unsupported).
Result<std::unique_ptr<Model>> open_gguf(std::unique_ptr<Source> source, GgufDialect dialect);

// A model of the tensors of all parts, of which there is at least one: metadata and asset as the first part has them.
// Errors: malformed (a tensor in two parts).
Result<std::unique_ptr<Model>> make_gguf_model(std::vector<GgufPart> parts);

// What the file says of itself: the parts of the model; 1 of a file that is not split. Errors: malformed.
Result<std::uint64_t> gguf_split_count(const GgufHeader& header);

// All parts of a split model, in order. Errors: not_found (a part), malformed (a part of another model, or counts that
// disagree), those of read_gguf_header().
Result<std::vector<GgufPart>> open_gguf_parts(const std::string& path, GgufPart part, GgufDialect dialect,
                                              FileSystem& file_system);

// The file at a path with its header. Errors: those of read_gguf_header() and open_source(), with the file.
Result<GgufPart> open_gguf_part(const std::string& path, GgufDialect dialect, FileSystem& file_system);

}  // namespace cdna
