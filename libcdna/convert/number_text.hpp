// Numbers in messages, the same whatever the program's locale.
#pragma once

#include <cstdint>
#include <string>

namespace cdna {

std::string number_text(double value);        // The shortest text that gives this number again: "5.9".
std::string thousandths_text(double value);   // "5.900"
std::string bytes_text(std::uint64_t bytes);  // "90.9 MB": powers of 1000.

}  // namespace cdna
