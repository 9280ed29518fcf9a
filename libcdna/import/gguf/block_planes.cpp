// Blocks in pieces of 1 MiB into planes: codes packed bit by bit, one factor and offset per group.
#include "libcdna/import/gguf/block_planes.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::uint64_t kPieceBytes = std::uint64_t{1} << 20;

struct Planes {
  std::vector<std::byte> codes;
  std::vector<float> factors;
  std::vector<float> offsets;
};

// Codes of whole bytes together: `count` times `bits` is a multiple of 8.
void append_packed(const std::uint8_t* codes, std::size_t count, std::uint32_t bits, std::vector<std::byte>& out) {
  std::uint32_t window = 0;
  std::uint32_t filled = 0;
  for (std::size_t i = 0; i < count; ++i) {
    window |= static_cast<std::uint32_t>(codes[i]) << filled;
    for (filled += bits; filled >= 8; filled -= 8, window >>= 8) out.push_back(static_cast<std::byte>(window & 255U));
  }
}

bool all_finite(const float* values, std::size_t count) {
  return std::all_of(values, values + count, [](float value) { return std::isfinite(value); });
}

class BlockReader {
 public:
  explicit BlockReader(const GgmlType& type)
      : type_(type), codes_(*type.codes), groups_(type.block_elements / type.codes->group) {}

  void reserve(std::uint64_t elements) {
    planes_->codes.reserve(static_cast<std::size_t>(elements / 8 * codes_.bits));
    planes_->factors.reserve(static_cast<std::size_t>(elements / codes_.group));
    if (codes_.has_offsets) planes_->offsets.reserve(planes_->factors.capacity());
  }

  // False: a scale is not finite.
  bool append(const std::byte* block) {
    UnpackedBlock unpacked;
    codes_.unpack(block, unpacked);
    append_packed(unpacked.codes, type_.block_elements, codes_.bits, planes_->codes);
    planes_->factors.insert(planes_->factors.end(), unpacked.factors, unpacked.factors + groups_);
    if (!all_finite(unpacked.factors, groups_)) return false;
    if (!codes_.has_offsets) return true;
    planes_->offsets.insert(planes_->offsets.end(), unpacked.offsets, unpacked.offsets + groups_);
    return all_finite(unpacked.offsets, groups_);
  }

  HeldPlanes finish() {
    HeldPlanes held;
    held.planes.bits = codes_.bits;
    held.planes.group = codes_.group;
    held.planes.codebook = codes_.codebook;
    held.planes.codes = planes_->codes;
    held.planes.group_factors = planes_->factors;
    held.planes.group_offsets = planes_->offsets;
    held.storage = std::move(planes_);
    return held;
  }

 private:
  const GgmlType& type_;
  const BlockCodes& codes_;
  const std::size_t groups_;
  std::shared_ptr<Planes> planes_ = std::make_shared<Planes>();
};

Error fail_tensor(Error error, const GgufTensor& tensor) {
  error.item = tensor.name;
  return error;
}

}  // namespace

Result<HeldPlanes> read_block_planes(const Source& source, const GgufTensor& tensor) {
  const std::uint64_t block_bytes = tensor.type->block_bytes;
  BlockReader reader(*tensor.type);
  reader.reserve(tensor.elements);
  std::vector<std::byte> piece(
      static_cast<std::size_t>(std::min(tensor.size_bytes, kPieceBytes / block_bytes * block_bytes)));
  for (std::uint64_t done = 0; done < tensor.size_bytes; done += piece.size()) {
    piece.resize(static_cast<std::size_t>(std::min<std::uint64_t>(piece.size(), tensor.size_bytes - done)));
    auto result = source.read_at(tensor.begin + done, piece);
    if (!result) return fail_tensor(std::move(result).error(), tensor);
    for (std::size_t at = 0; at < piece.size(); at += block_bytes) {
      if (reader.append(piece.data() + at)) continue;
      const std::uint64_t number = (done + at) / block_bytes;
      return fail_tensor(
          fail(Code::malformed, "",
               "block " + std::to_string(number) + " has a scale that is not finite: no codes can say so",
               tensor.begin + done + at),
          tensor);
    }
  }
  return reader.finish();
}

}  // namespace cdna
