// What a name and a type text may be: rules N1..N4 (spec/format.md, section 11).
#pragma once

#include <string_view>

#include "cdna/error.hpp"

namespace cdna {

Result<void> check_name(std::string_view name);
Result<void> check_type(std::string_view type);

}  // namespace cdna
