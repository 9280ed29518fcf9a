// What cdna convert does with each tensor, and why.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cdna/import.hpp"
#include "cdna/planner.hpp"
#include "cdna/policy.hpp"
#include "tools/cdna/convert_options.hpp"
#include "tools/cdna/convert_request.hpp"

namespace cdna::tools {

// What is expected of a tensor's preset, with a budget.
struct Forecast {
  OperatingPoint point;
  AllocatedPoint place;     // On the hull of what was tried; prices 0 where there was no choice.
  std::size_t choices = 1;  // Presets that were tried.
  std::string constraint;   // Why not all candidates were.
};

struct TensorPlan {
  Decision decision;
  std::optional<std::size_t> rule;      // Index into Plan::rules; nothing: the planner, or the default.
  std::optional<std::size_t> alias_of;  // The same tensor under another name, which comes earlier.
  std::optional<Forecast> forecast;     // Of tensors that are no aliases.
};

// How much was asked for, and what is expected.
struct BudgetPlan {
  std::optional<double> bits_per_weight;      // Wanted, or
  std::optional<std::uint64_t> target_bytes;  // of the whole file.
  std::uint64_t overhead_bytes = 0;           // Of the file, beside the tensors' planes and indices.
  std::uint64_t stored_bytes = 0;             // Expected of all tensors.
  double elements = 0;
  double mean_error = 0;  // Weighted mean of the relative squared errors.
  double price = 0;       // As in Allocation.
  bool all_best = false;  // The budget is larger than what all best presets take.
};

struct Plan {
  std::vector<PlanRule> rules;  // First match wins.
  std::vector<TensorPlan> tensors;
  std::optional<BudgetPlan> budget;
  std::vector<std::string> notes;  // About rules.
};

// Of a tensor, as the weight that it has among others.
double elements_of(const ModelTensor& tensor);

// Errors: bad_argument (a --keep-exact that matches nothing, a budget below the least possible), io, cancelled.
Result<Plan> make_plan(const ConvertOptions& options, const ConvertRequest& request, const Model& model,
                       const std::atomic<bool>& stop);

}  // namespace cdna::tools
