// Numbers, shapes and names as the tools print them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cdna/reader.hpp"

namespace cdna::tools {

std::string format_bytes(std::uint64_t bytes);  // "90.9 MB": powers of 1000, as disks and downloads count.
std::string format_shape(std::span<const std::uint64_t> shape);  // "384x384"; "scalar" for rank 0.
// Where element `position` of a row-major tensor is, per dimension. Requires: it exists.
std::vector<std::uint64_t> indices_of(std::span<const std::uint64_t> shape, std::uint64_t position);
std::string format_position(std::span<const std::uint64_t> shape, std::uint64_t position);  // "[3, 57]", likewise.
std::string format_dtype(DType dtype);  // "BF16"; the number of an unknown one.

// Whether a descriptor is a terminal that understands control sequences.
bool is_capable_terminal(int fd);

bool has_suffix(std::string_view path, std::string_view suffix);

}  // namespace cdna::tools
