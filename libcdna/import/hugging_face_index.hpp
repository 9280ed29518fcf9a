// model.safetensors.index.json: which tensor lies in which shard.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "cdna/error.hpp"

namespace cdna {

// The package's limit for headers serves for the index too: both hold one entry per tensor.
inline constexpr std::size_t kIndexBytesMax = 100'000'000;

struct ShardIndex {
  struct Entry {
    std::string tensor;
    std::size_t shard = 0;  // Number in `shards`.
  };
  std::vector<std::string> shards;  // File names, sorted, unique; never with a folder.
  std::vector<Entry> entries;       // Sorted by tensor, unique.
};

// Parses {"weight_map": {TENSOR: SHARD, ...}, ...}; other keys are ignored. Errors: malformed, limit.
Result<ShardIndex> parse_shard_index(std::string_view json);

}  // namespace cdna
