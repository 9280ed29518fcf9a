// Finds embeddings and output heads that are the same tensor under two names.
#pragma once

#include <atomic>
#include <cstddef>
#include <optional>
#include <vector>

#include "cdna/import.hpp"
#include "cdna/policy.hpp"

namespace cdna {

// For each tensor of the model the earlier one whose alias it becomes, or nothing. Only tensors whose role is embedding
// or output head are compared: byte for byte, after dtype and shape. Cost: reads each byte at most once. Errors: io;
// cancelled when `stop`, which may be null, is set.
Result<std::vector<std::optional<std::size_t>>> find_tied_tensors(const Model& model, const std::vector<Role>& roles,
                                                                  const std::atomic<bool>* stop);

}  // namespace cdna
