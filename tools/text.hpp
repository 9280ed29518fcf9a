// Numbers, shapes and names as the tools print them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "cdna/reader.hpp"

namespace cdna::tools {

std::string format_bytes(std::uint64_t bytes);  // "90.9 MB": powers of 1000, as disks and downloads count.
std::string format_shape(std::span<const std::uint64_t> shape);  // "384x384"; "scalar" for rank 0.
std::string format_dtype(DType dtype);                           // "BF16"; the number of an unknown one.
std::optional<double> snr_db(const Item& item);                  // Nothing for exact tensors, unknown or zero error.

// Whether a descriptor is a terminal that understands control sequences.
bool is_capable_terminal(int fd);

// Shell pattern (* ? [...]) against a whole name.
bool matches_glob(const std::string& pattern, std::string_view name);
bool has_suffix(std::string_view path, std::string_view suffix);

}  // namespace cdna::tools
