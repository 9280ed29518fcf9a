// What the exports to formats other than GGUF make of their options.
#pragma once

#include "cdna/convert.hpp"

namespace cdna {

// What a tensor becomes: floats what was asked for, all others themselves.
DType exported_dtype(const ExportOptions& options, DType source);

// Errors: bad_argument (a dtype that is no float; what only GGUF has).
Result<void> check_export_options(const ExportOptions& options);

}  // namespace cdna
