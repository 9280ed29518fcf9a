// Comparison of candidate pairs, a part at a time.
#include "tools/cdna/tied_tensors.hpp"

#include <algorithm>
#include <cstring>

namespace cdna::tools {
namespace {

constexpr std::size_t kPartBytes = std::size_t{1} << 20;

Result<bool> are_equal(const Model& model, std::size_t a, std::size_t b) {
  const ModelTensor& tensor = model.tensors()[a];
  if (tensor.dtype != model.tensors()[b].dtype || tensor.shape != model.tensors()[b].shape || tensor.size_bytes == 0) return false;
  std::vector<std::byte> part_a(kPartBytes);
  std::vector<std::byte> part_b(kPartBytes);
  for (std::uint64_t offset = 0; offset < tensor.size_bytes; offset += kPartBytes) {
    const std::size_t size = std::min<std::uint64_t>(kPartBytes, tensor.size_bytes - offset);
    if (auto result = model.read(a, offset, std::span(part_a).first(size)); !result) return std::move(result).error();
    if (auto result = model.read(b, offset, std::span(part_b).first(size)); !result) return std::move(result).error();
    if (std::memcmp(part_a.data(), part_b.data(), size) != 0) return false;
  }
  return true;
}

}  // namespace

Result<std::vector<std::optional<std::size_t>>> find_tied_tensors(const Model& model, const std::vector<Role>& roles) {
  std::vector<std::optional<std::size_t>> alias_of(roles.size());
  std::vector<std::size_t> candidates;  // Not aliases themselves.
  for (std::size_t i = 0; i < roles.size(); ++i) {
    if (roles[i] != Role::embedding && roles[i] != Role::output_head) continue;
    for (const std::size_t earlier : candidates) {
      const auto equal = are_equal(model, earlier, i);
      if (!equal) return equal.error();
      if (!*equal) continue;
      alias_of[i] = earlier;
      break;
    }
    if (!alias_of[i]) candidates.push_back(i);
  }
  return alias_of;
}

}  // namespace cdna::tools
