// The options of cdna convert as rules, candidates and a budget.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cdna/import.hpp"
#include "cdna/metadata.hpp"
#include "cdna/preset.hpp"
#include "tools/cdna/convert_options.hpp"
#include "tools/cdna/policy_file.hpp"

namespace cdna::tools {

// A rule and where it was given: "--keep-exact", "--embeddings", "rule 2", "--encoding".
struct PlanRule {
  std::string origin;
  std::optional<std::size_t> number;  // In the policy file, from 1.
  PolicyRule rule;
};

// Options that were parsed, as far as they need no model.
struct ConvertRequest {
  std::vector<PlanRule> rules;
  std::vector<Preset> candidates;  // With a budget: in the order in which they were given.
  std::optional<double> bits_per_weight;
  std::optional<std::uint64_t> target_bytes;
  bool has_budget() const { return bits_per_weight || target_bytes; }
};

// Errors: bad_argument (which option, and what would be right); those of read_policy().
Result<ConvertRequest> parse_request(const ConvertOptions& options);

// Metadata of the file to be: the source's, and "cdna.options": all that decides about the file's bytes.
Metadata metadata_of(const ConvertOptions& options, const ConvertRequest& request, const Model& model);

}  // namespace cdna::tools
