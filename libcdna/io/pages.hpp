// The pages of the system's memory.
#pragma once

#include <cstdint>

namespace cdna {

// Size of a page; a power of two.
std::uint64_t page_bytes();

}  // namespace cdna
