// The check behind the choice of an instruction set.
#pragma once

#include "cdna/cpu.hpp"
#include "cdna/error.hpp"

namespace cdna {

// Errors: bad_argument where CDNA_CPU names an instruction set that does not exist or is not available here.
Result<void> check_isa();

}  // namespace cdna
