// Comparison of candidates that begin alike, a part at a time.
#include "tools/cdna/tied_tensors.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <tuple>

namespace cdna::tools {
namespace {

constexpr std::size_t kPartBytes = std::size_t{1} << 20;
constexpr std::size_t kBeginningBytes = 4096;

// Tensors with different keys are different: only those with equal keys are compared in full, so that a model with
// thousands of embeddings costs one small read for each.
using Key = std::tuple<DType, std::vector<std::uint64_t>, std::vector<std::byte>>;

Result<Key> key_of(const Model& model, std::size_t i) {
  const ModelTensor& tensor = model.tensors()[i];
  std::vector<std::byte> beginning(std::min<std::uint64_t>(kBeginningBytes, tensor.size_bytes));
  if (auto result = model.read(i, 0, beginning); !result) return std::move(result).error();
  return Key{tensor.dtype, tensor.shape, std::move(beginning)};
}

// Requires: equal keys.
Result<bool> are_equal(const Model& model, std::size_t a, std::size_t b) {
  const std::uint64_t size_bytes = model.tensors()[a].size_bytes;
  std::vector<std::byte> part_a(kPartBytes);
  std::vector<std::byte> part_b(kPartBytes);
  for (std::uint64_t offset = kBeginningBytes; offset < size_bytes; offset += kPartBytes) {
    const std::size_t size = std::min<std::uint64_t>(kPartBytes, size_bytes - offset);
    if (auto result = model.read(a, offset, std::span(part_a).first(size)); !result) return std::move(result).error();
    if (auto result = model.read(b, offset, std::span(part_b).first(size)); !result) return std::move(result).error();
    if (std::memcmp(part_a.data(), part_b.data(), size) != 0) return false;
  }
  return true;
}

}  // namespace

Result<std::vector<std::optional<std::size_t>>> find_tied_tensors(const Model& model, const std::vector<Role>& roles) {
  std::vector<std::optional<std::size_t>> alias_of(roles.size());
  std::map<Key, std::vector<std::size_t>> candidates;  // Not aliases themselves.
  for (std::size_t i = 0; i < roles.size(); ++i) {
    const bool may_be_tied = roles[i] == Role::embedding || roles[i] == Role::output_head;
    if (!may_be_tied || model.tensors()[i].size_bytes == 0) continue;
    auto key = key_of(model, i);
    if (!key) return std::move(key).error();
    std::vector<std::size_t>& alike = candidates[*std::move(key)];
    for (const std::size_t earlier : alike) {
      const auto equal = are_equal(model, earlier, i);
      if (!equal) return equal.error();
      if (!*equal) continue;
      alias_of[i] = earlier;
      break;
    }
    if (!alias_of[i]) alike.push_back(i);
  }
  return alias_of;
}

}  // namespace cdna::tools
