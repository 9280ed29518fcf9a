// The tensors and metadata of several safetensors files as one list.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/import.hpp"
#include "libcdna/import/hugging_face_index.hpp"

namespace cdna {

struct Shard {
  std::string name;  // File name.
  std::unique_ptr<Model> model;
};

struct ShardNote {
  std::string shard;
  std::string text;
};

struct MergedShards {
  struct Place {
    std::size_t shard = 0;
    std::size_t tensor = 0;  // Within the shard.
  };
  std::vector<ModelTensor> tensors;  // Sorted by name.
  std::vector<Place> places;         // Of each tensor.
  Metadata metadata;
  std::vector<ShardNote> notes;
};

// Merges shards, which are sorted by name. A metadata key with several values keeps the first under "safetensors:KEY";
// the others become "safetensors@SHARD:KEY", with a note. Errors: malformed (a tensor in two shards).
Result<MergedShards> merge_shards(const std::vector<Shard>& shards);

// Index and shards must agree on every tensor, in both directions. Errors: malformed (names tensor and shards).
Result<void> check_shard_index(const ShardIndex& index, const MergedShards& merged);

}  // namespace cdna
