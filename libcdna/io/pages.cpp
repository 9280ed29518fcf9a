// Asks the system once.
#include "libcdna/io/pages.hpp"

#include <unistd.h>

namespace cdna {

std::uint64_t page_bytes() {
  static const auto bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return bytes;
}

}  // namespace cdna
