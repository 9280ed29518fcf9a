// Which options of the codebook encoder can be fulfilled.
#pragma once

#include "cdna/preset.hpp"

namespace cdna {

// Errors: bad_argument.
Result<void> check_options(const CodebookOptions& options);

}  // namespace cdna
