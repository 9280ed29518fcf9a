// Parser of model.safetensors.index.json.
#include "libcdna/import/hugging_face_index.hpp"

#include <algorithm>
#include <map>
#include <utility>

#include "libcdna/import/file_names.hpp"
#include "libcdna/import/json.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

class IndexEvents final : public JsonEvents {
 public:
  Result<void> begin_object() override {
    if (depth_ == 1 && is_map_) in_map_ = has_map_ = true;
    return deeper();
  }
  Result<void> begin_array() override { return deeper(); }

  Result<void> end() override {
    if (--depth_ == 1) in_map_ = is_map_ = false;
    return {};
  }

  Result<void> key(std::string name) override {
    if (depth_ == 1) is_map_ = name == "weight_map";
    if (depth_ == 2 && in_map_) tensor_ = std::move(name);
    return {};
  }

  Result<void> scalar(JsonScalar value) override {
    if (depth_ != 2 || !in_map_) return {};
    if (value.kind != JsonScalar::Kind::string) return malformed("its shard is not a string");
    if (!is_file_name(value.text)) return malformed("its shard " + quote(value.text) + " is not a plain file name");
    const auto [shard, is_new] = shards_.try_emplace(std::move(value.text), shards_.size());
    entries_.push_back({std::move(tensor_), shard->second});
    return {};
  }

  // Requires: the document was read. The numbers of shards become those of their sorted names.
  Result<ShardIndex> finish() {
    CDNA_CHECK(has_map_, Code::malformed, "", "has no object \"weight_map\"");
    CDNA_CHECK(!entries_.empty(), Code::malformed, "", "\"weight_map\" is empty");
    ShardIndex index;
    std::vector<std::size_t> rank(shards_.size());
    for (const auto& [name, number] : shards_) {
      rank[number] = index.shards.size();
      index.shards.push_back(name);
    }
    for (ShardIndex::Entry& entry : entries_) entry.shard = rank[entry.shard];
    std::sort(entries_.begin(), entries_.end(), [](const auto& a, const auto& b) { return a.tensor < b.tensor; });
    index.entries = std::move(entries_);
    return index;
  }

 private:
  Result<void> deeper() {
    if (depth_ == 2 && in_map_) return malformed("its shard is not a string");
    ++depth_;
    return {};
  }

  Error malformed(std::string message) const {
    Error error = fail(Code::malformed, "", std::move(message));
    error.item = tensor_;
    return error;
  }

  std::size_t depth_ = 0;
  bool is_map_ = false;  // The key at depth 1 that was read last is weight_map.
  bool in_map_ = false;
  bool has_map_ = false;
  std::string tensor_;
  std::map<std::string, std::size_t> shards_;  // By order of appearance.
  std::vector<ShardIndex::Entry> entries_;
};

}  // namespace

Result<ShardIndex> parse_shard_index(std::string_view json) {
  IndexEvents events;
  CDNA_TRY(read_json(json, events));
  return events.finish();
}

}  // namespace cdna
