// Sets of tensors that are equal so far are split by their next bytes, until a set has one tensor or no bytes are left.
#include "libcdna/convert/tied_tensors.hpp"

#include <algorithm>
#include <map>
#include <span>
#include <string>
#include <tuple>
#include <utility>

#include "libcdna/try.hpp"

namespace cdna {
namespace {

// Most models' embeddings differ in their first bytes: one small read each.
constexpr std::uint64_t kFirstPartBytes = 4096;
constexpr std::uint64_t kPartBytesMin = 64;
constexpr std::uint64_t kPartBytesMax = std::uint64_t{1} << 20;
constexpr std::uint64_t kPartsBytesMax = std::uint64_t{16} << 20;  // Of all tensors of a set together.

struct EqualSoFar {
  std::vector<std::size_t> tensors;  // Ascending.
  std::uint64_t offset = 0;          // All bytes before it are equal.
};

std::uint64_t part_bytes(const EqualSoFar& set) {
  const std::uint64_t most = set.offset == 0 ? kFirstPartBytes : kPartBytesMax;
  return std::clamp(kPartsBytesMax / set.tensors.size(), kPartBytesMin, most);
}

std::vector<EqualSoFar> candidates_of(const Model& model, const std::vector<Role>& roles) {
  std::map<std::tuple<DType, std::vector<std::uint64_t>>, EqualSoFar> sets;
  for (std::size_t i = 0; i < roles.size(); ++i) {
    const ModelTensor& tensor = model.tensors()[i];
    const bool may_be_tied = roles[i] == Role::embedding || roles[i] == Role::output_head;
    if (may_be_tied && tensor.size_bytes != 0 && !tensor.is_encoded) sets[{tensor.dtype, tensor.shape}].tensors.push_back(i);
  }
  std::vector<EqualSoFar> out;
  for (auto& [key, set] : sets) out.push_back(std::move(set));
  return out;
}

// Appends to `out` the parts into which the next bytes split the set.
Result<void> split(const Model& model, const EqualSoFar& set, const std::atomic<bool>* stop,
                   std::vector<EqualSoFar>& out) {
  const std::uint64_t size_bytes = model.tensors()[set.tensors.front()].size_bytes;
  const std::uint64_t end = set.offset + std::min(part_bytes(set), size_bytes - set.offset);
  std::map<std::string, EqualSoFar> sets;  // By their next bytes.
  for (const std::size_t tensor : set.tensors) {
    CDNA_CHECK(stop == nullptr || !stop->load(), Code::cancelled, "", "stopped on request");
    std::string part(end - set.offset, '\0');
    const std::span<std::byte> bytes = std::as_writable_bytes(std::span(part));
    CDNA_TRY(model.read(tensor, set.offset, bytes));
    EqualSoFar& equal = sets[std::move(part)];
    equal.tensors.push_back(tensor);
    equal.offset = end;
  }
  for (auto& [part, equal] : sets) out.push_back(std::move(equal));
  return {};
}

}  // namespace

Result<std::vector<std::optional<std::size_t>>> find_tied_tensors(const Model& model, const std::vector<Role>& roles,
                                                                  const std::atomic<bool>* stop) {
  std::vector<std::optional<std::size_t>> alias_of(roles.size());
  std::vector<EqualSoFar> sets = candidates_of(model, roles);
  while (!sets.empty()) {
    const EqualSoFar set = std::move(sets.back());
    sets.pop_back();
    if (set.tensors.size() == 1) continue;
    if (set.offset < model.tensors()[set.tensors.front()].size_bytes) {
      CDNA_TRY(split(model, set, stop, sets));
      continue;
    }
    for (const std::size_t tensor : set.tensors) {
      if (tensor != set.tensors.front()) alias_of[tensor] = set.tensors.front();
    }
  }
  return alias_of;
}

}  // namespace cdna
