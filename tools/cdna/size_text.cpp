// A number and a unit.
#include "tools/cdna/size_text.hpp"

#include <array>
#include <charconv>
#include <string>

namespace cdna::tools {
namespace {

struct Unit {
  std::string_view name;
  double bytes;
};

constexpr std::array<Unit, 10> kUnits{{{"", 1},
                                       {"b", 1},
                                       {"kb", 1e3},
                                       {"mb", 1e6},
                                       {"gb", 1e9},
                                       {"tb", 1e12},
                                       {"kib", 1024.0},
                                       {"mib", 1024.0 * 1024},
                                       {"gib", 1024.0 * 1024 * 1024},
                                       {"tib", 1024.0 * 1024 * 1024 * 1024}}};
constexpr double kBytesEnd = 9007199254740992.0;  // 2^53: up to here f64 counts bytes.

std::optional<double> bytes_of(std::string_view unit) {
  if (unit.starts_with(' ')) unit.remove_prefix(1);
  std::string lower(unit);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  for (const Unit& each : kUnits) {
    if (each.name == lower) return each.bytes;
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::uint64_t> parse_size(std::string_view text) {
  if (text.empty() || text.front() < '0' || text.front() > '9') return std::nullopt;  // No sign, no "inf".
  double number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number, std::chars_format::fixed);
  if (error != std::errc{}) return std::nullopt;
  const auto unit = bytes_of({rest, static_cast<std::size_t>(end - rest)});
  if (!unit || !(number * *unit >= 1) || !(number * *unit < kBytesEnd)) return std::nullopt;
  return static_cast<std::uint64_t>(number * *unit);
}

}  // namespace cdna::tools
