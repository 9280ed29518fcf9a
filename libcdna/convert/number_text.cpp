// Numbers by std::to_chars.
#include "libcdna/convert/number_text.hpp"

#include <array>
#include <charconv>

namespace cdna {
namespace {

std::string fixed_text(double value, int digits) {
  std::array<char, 330> text{};  // Of any f64.
  char* const end = text.data() + text.size();
  return {text.data(), std::to_chars(text.data(), end, value, std::chars_format::fixed, digits).ptr};
}

}  // namespace

std::string number_text(double value) {
  std::array<char, 32> text{};
  return {text.data(), std::to_chars(text.data(), text.data() + text.size(), value).ptr};
}

std::string thousandths_text(double value) { return fixed_text(value, 3); }

std::string bytes_text(std::uint64_t bytes) {
  constexpr std::array<const char*, 7> kUnits{" B", " kB", " MB", " GB", " TB", " PB", " EB"};
  if (bytes < 1000) return std::to_string(bytes) + kUnits[0];
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 999.95 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  return fixed_text(value, value < 99.95 ? 1 : 0) + kUnits[unit];
}

}  // namespace cdna
