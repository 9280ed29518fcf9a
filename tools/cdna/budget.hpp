// Spends a number of bytes on the tensors of a plan that no rule has decided.
#pragma once

#include <atomic>

#include "cdna/import.hpp"
#include "tools/cdna/plan.hpp"

namespace cdna::tools {

// Tries the candidates on every tensor that may have them, chooses by allocate(), and fills in decisions, forecasts and
// plan.budget. Embeddings and output heads are given codes of 8 bits or exact values. Errors: bad_argument (a budget
// below the least possible: the message says it), io, cancelled, no_memory.
Result<void> spend_budget(const ConvertOptions& options, const ConvertRequest& request, const Model& model,
                          const std::atomic<bool>& stop, Plan& plan);

}  // namespace cdna::tools
