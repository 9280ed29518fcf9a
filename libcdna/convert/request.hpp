// ConvertOptions as rules, candidates and a budget.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cdna/convert.hpp"

namespace cdna {

// Options that were parsed, as far as they need no model.
struct ConvertRequest {
  std::vector<PlanRule> rules;
  std::vector<Preset> candidates;  // With a budget: in the order in which they were given.
  std::optional<double> bits_per_weight;
  std::optional<std::uint64_t> target_bytes;
  bool has_budget() const { return bits_per_weight || target_bytes; }
};

// Errors: those of check().
Result<ConvertRequest> parse_request(const ConvertOptions& options);

// "cdna.options": all that decides about the file's bytes, as JSON.
std::string recorded_options(const ConvertOptions& options, const ConvertRequest& request);

}  // namespace cdna
