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

// What `cdna convert --encoding wanted` does with a tensor that no option keeps exact.
Decision decide(const Preset& wanted, std::string_view tensor_name, DType dtype, std::span<const std::uint64_t> shape);

}  // namespace cdna
