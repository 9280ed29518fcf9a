// Policy files of cdna convert: which preset for which tensors (tools/README.md).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cdna/policy.hpp"
#include "tools/json.hpp"

namespace cdna::tools {

// One rule: a tensor that fits one of the globs (if any) and has one of the roles (if any) gets the preset.
struct PolicyRule {
  std::vector<std::string> globs;
  std::vector<Role> roles;
  Preset preset;

  bool matches(std::string_view tensor_name, Role role) const;
  // A rule that names tensors reaches those that stay exact by default; one for all tensors does not.
  Asked asked() const { return globs.empty() && roles.empty() ? Asked::for_all : Asked::by_name; }
  // "glob *.k_proj.weight, role matrix"; "all tensors".
  std::string text() const;
  ordered_json json() const;
};

// Reads the rules of a policy file. Errors: those of opening it; malformed (not JSON, or not such a file: the rule by
// number and what would be right), limit (over 1 MiB, 256 rules or 1024 globs). Error::file is the path.
Result<std::vector<PolicyRule>> read_policy(const std::string& path);

// The same of text.
Result<std::vector<PolicyRule>> parse_policy(std::string_view text);

}  // namespace cdna::tools
