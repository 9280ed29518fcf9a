// Stored blocks where they are the values, decoded rows elsewhere.
#include "libcdna/convert/tensor_bytes.hpp"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "libcdna/convert/number_text.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::uint64_t kStepBytes = std::uint64_t{4} << 20;
constexpr std::uint64_t kRowBytesMax = std::uint64_t{256} << 20;  // A few bytes can claim a row of any length.

Error too_wide(const Tensor& tensor, std::uint64_t row_bytes) {
  Error error = fail(
      Code::limit, "",
      "a row has " + bytes_text(row_bytes) + ", over the " + bytes_text(kRowBytesMax) + " that are decoded at once");
  error.item = tensor.name();
  return error;
}

// The blocks of an exact tensor are its bytes, in order.
Result<void> copy_blocks(const Tensor& tensor, const TakeBytes& take) {
  BlockRange blocks = CDNA_TRY(tensor.blocks());
  for (const Result<Block>& block : blocks) {
    if (!block) return block.error();
    CDNA_TRY(take(block->data));
  }
  return {};
}

Result<void> decode_rows(const Tensor& tensor, DType dtype, const TakeBytes& take) {
  if (tensor.element_count() == 0) return {};
  const std::uint64_t row_bytes = tensor.row_bytes(dtype);
  if (row_bytes > kRowBytesMax) return too_wide(tensor, row_bytes);
  const std::uint64_t step = std::max<std::uint64_t>(1, kStepBytes / row_bytes);
  std::vector<std::byte> buffer;
  for (std::uint64_t row = 0; row < tensor.rows(); row += step) {
    const std::uint64_t end = std::min(tensor.rows(), row + step);
    buffer.resize((end - row) * row_bytes);
    CDNA_TRY(tensor.read_rows(row, end, dtype, buffer));
    CDNA_TRY(take(buffer));
  }
  return {};
}

}  // namespace

Result<void> write_tensor_bytes(const Tensor& tensor, DType dtype, const TakeBytes& take) {
  const bool as_stored = tensor.encoding() == "cdna.exact" && dtype == tensor.dtype();
  return as_stored ? copy_blocks(tensor, take) : decode_rows(tensor, dtype, take);
}

}  // namespace cdna
