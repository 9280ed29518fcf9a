// Spends a number of bytes on the tensors of a plan that no rule has decided.
#pragma once

#include "cdna/convert.hpp"
#include "libcdna/convert/request.hpp"

namespace cdna {

// Tries the candidates on every tensor that may have them, chooses by allocate(), and fills in decisions, forecasts and
// plan.budget. Embeddings and output heads are given codes of 8 bits or exact values. Reports progress. Requires:
// decisions, aliases and recorded options of the plan. Errors: bad_argument (a budget below the least possible: the
// message says it), those of Model::read, cancelled, no_memory.
Result<void> spend_budget(const ConvertOptions& options, const ConvertRequest& request, const Model& model, Plan& plan);

}  // namespace cdna
