// Which encoding a tensor gets: by its own name, shape and dtype, never by the model's name (spec/format.md, section
// 21).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "cdna/dtype.hpp"
#include "cdna/preset.hpp"
#include "cdna/reader.hpp"

namespace cdna {

// One row of the role table; the first whose patterns fit decides.
struct RoleRule {
  Role role;
  std::string_view name;      // "embedding"
  std::string_view patterns;  // As printed by --explain.
};
std::span<const RoleRule> role_rules();

// "embedding"; "other" for unknown values. Static storage.
std::string_view name_of(Role role);

// The role that the table gives to a tensor.
Role role_of(std::string_view tensor_name, DType dtype, std::span<const std::uint64_t> shape);

struct Decision {
  Preset preset;
  Role role = Role::other;
  std::string reason;  // One line for people.
};

// How a preset was asked for.
enum class Asked : std::uint8_t {
  for_all,  // Of the whole model: only matrices and convolutions become codes.
  by_name,  // Of this tensor, by its name or role: whatever can be encoded.
};

// What becomes of a tensor for which `wanted` was asked: that preset, or exact with the reason. By nobody's wish are
// codes made of other dtypes than F16, BF16, F32 and F64, of rank 0 or 1, of fewer than 4096 elements, or of rows of
// fewer than 64 or more than 2^24 (spec/format.md, section 21).
Decision decide(const Preset& wanted, std::string_view tensor_name, DType dtype, std::span<const std::uint64_t> shape,
                Asked asked = Asked::for_all);

}  // namespace cdna
