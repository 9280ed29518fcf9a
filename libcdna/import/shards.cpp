// Merges shards and compares them with their index.
#include "libcdna/import/shards.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

#include "libcdna/import/json.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::string_view kPrefix = "safetensors:";

Error fail_tensor(const std::string& tensor, std::string message) {
  Error error = fail(Code::malformed, "", std::move(message));
  error.item = tensor;
  return error;
}

std::vector<MergedShards::Place> places_of(const std::vector<Shard>& shards) {
  std::vector<MergedShards::Place> places;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    for (std::size_t j = 0; j < shards[i].model->tensors().size(); ++j) places.push_back({i, j});
  }
  return places;
}

Result<void> merge_tensors(const std::vector<Shard>& shards, MergedShards& out) {
  out.places = places_of(shards);
  const auto tensor_at = [&](const MergedShards::Place& place) -> const ModelTensor& {
    return shards[place.shard].model->tensors()[place.tensor];
  };
  // Stable: of a tensor that two shards have, the first shard comes first in the message too.
  std::stable_sort(out.places.begin(), out.places.end(),
                   [&](const auto& a, const auto& b) { return tensor_at(a).name < tensor_at(b).name; });
  out.tensors.reserve(out.places.size());
  for (std::size_t i = 0; i < out.places.size(); ++i) {
    const ModelTensor& tensor = tensor_at(out.places[i]);
    if (i > 0 && out.tensors.back().name == tensor.name) {
      return fail_tensor(tensor.name, "two shards have it: " + quote(shards[out.places[i - 1].shard].name) + " and " +
                                          quote(shards[out.places[i].shard].name));
    }
    out.tensors.push_back(tensor);
  }
  return {};
}

Result<void> merge_metadata(const Shard& shard, MergedShards& out) {
  for (const auto& [key, value] : shard.model->metadata()) {
    const auto [first, is_new] = out.metadata.try_emplace(key, value);
    if (is_new || first->second == value) continue;
    const std::string plain_key = key.substr(kPrefix.size());
    const std::string own_key = "safetensors@" + shard.name + ":" + plain_key;
    // Shard "a:b" with key "c" and shard "a" with "b:c".
    CDNA_CHECK(out.metadata.try_emplace(own_key, value).second, Code::malformed, "",
               "two shards want the metadata key " + quote(own_key));
    out.notes.push_back({shard.name, "its metadata " + quote(plain_key) +
                                         " differs from that of earlier shards and is kept as " + quote(own_key)});
  }
  return {};
}

}  // namespace

Result<MergedShards> merge_shards(const std::vector<Shard>& shards) {
  MergedShards out;
  CDNA_TRY(merge_tensors(shards, out));
  for (const Shard& shard : shards) CDNA_TRY(merge_metadata(shard, out));
  return out;
}

Result<void> check_shard_index(const ShardIndex& index, const MergedShards& merged) {
  const auto shard_name = [&](std::size_t shard) { return quote(index.shards[shard]); };
  std::size_t i = 0;
  std::size_t j = 0;
  while (i < index.entries.size() || j < merged.tensors.size()) {
    const bool in_index =
        i < index.entries.size() && (j == merged.tensors.size() || index.entries[i].tensor <= merged.tensors[j].name);
    const bool in_shards =
        j < merged.tensors.size() && (i == index.entries.size() || merged.tensors[j].name <= index.entries[i].tensor);
    if (!in_shards) {
      return fail_tensor(index.entries[i].tensor, "the index places it in shard " + shard_name(index.entries[i].shard) +
                                                      ", which does not have it");
    }
    const std::size_t shard = merged.places[j].shard;
    if (!in_index) {
      return fail_tensor(merged.tensors[j].name, "in shard " + shard_name(shard) + " but not in the index");
    }
    if (index.entries[i].shard != shard) {
      return fail_tensor(merged.tensors[j].name, "the index places it in shard " + shard_name(index.entries[i].shard) +
                                                     ", but shard " + shard_name(shard) + " has it");
    }
    ++i;
    ++j;
  }
  return {};
}

}  // namespace cdna
