// What exports have in common before they write: their options, and whether all can be read.
#pragma once

#include "cdna/convert.hpp"
#include "cdna/reader.hpp"

namespace cdna {

// What a tensor becomes: floats what was asked for, all others themselves.
DType exported_dtype(const ExportOptions& options, DType source);

// Errors: bad_argument (a dtype that is no float).
Result<void> check_export_dtype(const ExportOptions& options);
// Of formats other than GGUF. Errors: bad_argument (a dtype that is no float; what only GGUF has).
Result<void> check_export_options(const ExportOptions& options);

// Errors: those of Tensor::check_supported(), of the first tensor that has any.
Result<void> check_all_supported(const Reader& reader);

}  // namespace cdna
