// Formatting.
#include "tools/text.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cstdlib>

namespace cdna::tools {

std::string format_bytes(std::uint64_t bytes) {
  constexpr std::array<const char*, 7> kUnits{"B", "kB", "MB", "GB", "TB", "PB", "EB"};
  if (bytes < 1000) return fmt::format("{} B", bytes);
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 999.95 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  return fmt::format("{:.{}f} {}", value, value < 99.95 ? 1 : 0, kUnits[unit]);
}

std::string format_shape(std::span<const std::uint64_t> shape) {
  if (shape.empty()) return "scalar";
  return fmt::format("{}", fmt::join(shape, "x"));
}

std::vector<std::uint64_t> indices_of(std::span<const std::uint64_t> shape, std::uint64_t position) {
  std::vector<std::uint64_t> indices(shape.size());
  for (std::size_t i = shape.size(); i-- > 0;) {
    indices[i] = position % shape[i];
    position /= shape[i];
  }
  return indices;
}

std::string format_position(std::span<const std::uint64_t> shape, std::uint64_t position) {
  return fmt::format("[{}]", fmt::join(indices_of(shape, position), ", "));
}

std::string format_dtype(DType dtype) {
  return is_known(dtype) ? std::string(name_of(dtype)) : fmt::format("dtype {}", static_cast<unsigned>(dtype));
}

bool is_capable_terminal(int fd) {
  const char* const term = std::getenv("TERM");
  return isatty(fd) != 0 && term != nullptr && std::string_view(term) != "dumb";
}

bool has_suffix(std::string_view path, std::string_view suffix) {
  return path.size() > suffix.size() && path.substr(path.size() - suffix.size()) == suffix;
}

}  // namespace cdna::tools
