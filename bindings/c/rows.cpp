// Rows of a tensor as elements of the caller's dtype, with gaps between them or without, by one thread or several.
#include <atomic>
#include <memory>
#include <mutex>

#include "bindings/c/reader.hpp"
#include "bindings/c/workers.hpp"

namespace cdna::c {
namespace {

constexpr std::uint64_t kPieceBytes = std::uint64_t{1} << 20;  // What a thread takes at a time, at least.
constexpr std::uint64_t kCopyBytes = std::uint64_t{16} << 20;  // Of rows that are moved apart, at a time: about.

// A call's arguments, checked.
struct RowRead {
  Tensor tensor;
  std::uint64_t begin;
  std::uint64_t end;
  DType dtype;
  std::byte* out;
  std::uint64_t row_bytes;
  std::uint64_t stride;
};

// That all rows end within what can be addressed.
Result<void> check_stride(const RowRead& read) {
  constexpr std::uint64_t kBytesMax = std::uint64_t{1} << 62;
  if (read.stride < read.row_bytes)
    return bad_argument("row_stride is " + std::to_string(read.stride) + ", and a row takes " +
                        std::to_string(read.row_bytes) + " bytes");
  const std::uint64_t rows = read.end - read.begin;
  if (read.stride != 0 && rows > kBytesMax / read.stride)
    return bad_argument(std::to_string(rows) + " rows with row_stride " + std::to_string(read.stride) +
                        " are larger than any memory");
  return {};
}

Result<RowRead> checked_rows(const RowRange& rows, std::uint32_t dtype, void* out, std::uint64_t stride) {
  const Tensor& tensor = rows.named.tensor;
  if (dtype == CDNA_DTYPE_NONE || dtype > kDTypeLast) return bad_argument("dtype is " + std::to_string(dtype));
  CDNA_TRY(tensor.check_supported());
  const auto wanted = static_cast<DType>(dtype);
  const std::uint64_t row_bytes = tensor.row_bytes(wanted);
  const RowRead read{
      tensor, rows.begin, rows.end, wanted, static_cast<std::byte*>(out), row_bytes, stride == 0 ? row_bytes : stride};
  CDNA_TRY(check_stride(read));
  if (rows.begin != rows.end && row_bytes != 0) CDNA_TRY(need(out, "out"));
  return read;
}

Result<RowRead> checked(const cdna_reader* reader, std::uint64_t number, std::uint64_t begin, std::uint64_t end,
                        std::uint32_t dtype, void* out, std::uint64_t stride) {
  const RowRange rows = CDNA_TRY(row_range(reader, number, begin, end));
  return placed(*reader, rows.named.item, checked_rows(rows, dtype, out, stride));
}

// Rows that are read at a time to be moved apart: whole blocks, so that none is decoded twice. 0: each row alone,
// straight to its place.
std::uint64_t copied_rows(const RowRead& read) {
  const std::uint64_t rows = kCopyBytes / read.row_bytes;
  const std::uint64_t block_rows = read.tensor.plane(0).rows_per_block;
  if (block_rows == 0 || (block_rows == 1 && rows == 0)) return 0;
  return std::max<std::uint64_t>(rows / block_rows, 1) * block_rows;
}

Result<void> read_each(const RowRead& read, std::uint64_t begin, std::uint64_t end) {
  for (std::uint64_t row = begin; row < end; ++row) {
    std::byte* const place = read.out + (row - read.begin) * read.stride;
    CDNA_TRY(read.tensor.read_rows(row, row + 1, read.dtype, {place, read.row_bytes}));
  }
  return {};
}

// Rows [begin, end) into memory of their own, and from there to their places.
Result<void> read_apart(const RowRead& read, std::uint64_t begin, std::uint64_t end) {
  const std::uint64_t step = copied_rows(read);
  if (step == 0) return read_each(read, begin, end);
  const std::uint64_t size = std::min(step, end - begin) * read.row_bytes;
  const auto copy = std::make_unique_for_overwrite<std::byte[]>(size);
  for (std::uint64_t first = begin; first < end;) {
    const std::uint64_t last = std::min((first / step + 1) * step, end);
    CDNA_TRY(read.tensor.read_rows(first, last, read.dtype, {copy.get(), (last - first) * read.row_bytes}));
    for (std::uint64_t row = first; row < last; ++row)
      std::memcpy(read.out + (row - read.begin) * read.stride, copy.get() + (row - first) * read.row_bytes,
                  read.row_bytes);
    first = last;
  }
  return {};
}

Result<void> read_piece(const RowRead& read, std::uint64_t begin, std::uint64_t end) {
  const bool apart = read.row_bytes != 0 && read.stride != read.row_bytes && end - begin > 1;
  if (apart) return read_apart(read, begin, end);
  std::byte* const out = read.out + (begin - read.begin) * read.stride;
  return read.tensor.read_rows(begin, end, read.dtype, {out, (end - begin) * read.row_bytes});
}

// Pieces of whole blocks, handed out in order. Of several errors the first in the order of rows is the result.
class Pieces {
 public:
  explicit Pieces(const RowRead& read) : read_(&read) {
    const std::uint64_t block_rows = std::max<std::uint64_t>(read.tensor.plane(0).rows_per_block, 1);
    // Blocks are at most 16 MiB, so that their rows in bits_of(dtype) bits do not overflow.
    const std::uint64_t block_bytes =
        std::max<std::uint64_t>(block_rows * std::max<std::uint64_t>(read.row_bytes, 1), 1);
    rows_ = block_rows * std::max<std::uint64_t>(kPieceBytes / block_bytes, 1);
    first_ = read.begin / rows_;
    count_ = (read.end - 1) / rows_ + 1 - first_;
  }

  std::uint64_t count() const { return count_; }

  // Takes pieces until there are none, or one before them has failed.
  void work() noexcept {
    while (true) {
      const std::uint64_t piece = next_++;
      if (piece >= count_ || piece > failed_at_) return;
      const std::uint64_t begin = std::max((first_ + piece) * rows_, read_->begin);
      const std::uint64_t end = std::min((first_ + piece + 1) * rows_, read_->end);
      Result<void> result = no_throw([&] { return read_piece(*read_, begin, end); });
      if (!result) note(piece, std::move(result).error());
    }
  }

  Result<void> result() && { return std::move(result_); }

 private:
  void note(std::uint64_t piece, Error error) {
    const std::lock_guard lock(mutex_);
    if (piece >= failed_at_) return;
    failed_at_ = piece;
    result_ = std::move(error);
  }

  const RowRead* read_;
  std::uint64_t rows_ = 1;   // Of a piece, but for those at the ends.
  std::uint64_t first_ = 0;  // Pieces begin at multiples of rows_.
  std::uint64_t count_ = 0;
  std::atomic<std::uint64_t> next_{0};
  std::atomic<std::uint64_t> failed_at_{~std::uint64_t{0}};
  std::mutex mutex_;
  Result<void> result_;
};

Result<void> read_parallel(const RowRead& read, Workers& workers) {
  Pieces pieces(read);
  if (pieces.count() == 1) return read_piece(read, read.begin, read.end);
  workers.run([&pieces](std::size_t) { pieces.work(); });
  return std::move(pieces).result();
}

Result<void> read_with(const RowRead& read, Workers* workers) {
  if (read.begin == read.end || read.row_bytes == 0 || workers == nullptr || workers->concurrency() == 1)
    return read_piece(read, read.begin, read.end);
  Result<void> result = read_parallel(read, *workers);
  // Of several rules that a whole tensor breaks, that of a digest comes before those of decoding, as without workers.
  const bool whole = read.begin == 0 && read.end == read.tensor.rows();
  if (!result && whole && result.error().code == Code::malformed) CDNA_TRY(read.tensor.verify());
  return result;
}

Result<void> read_rows(const cdna_reader* reader, std::uint64_t tensor, std::uint64_t begin, std::uint64_t end,
                       std::uint32_t dtype, void* out, std::uint64_t stride, cdna_workers* workers) {
  const RowRead read = CDNA_TRY(checked(reader, tensor, begin, end, dtype, out, stride));
  const WorkersInUse use(workers);
  CDNA_TRY(use.begin());
  CDNA_TRY(placed(*reader, reader->reader.tensor_item(static_cast<std::uint32_t>(tensor)), read_with(read, use.get())));
  return use.end();
}

}  // namespace
}  // namespace cdna::c

extern "C" {

cdna_code cdna_read_rows(const cdna_reader* reader, uint64_t tensor, uint64_t row_begin, uint64_t row_end,
                         uint32_t dtype, void* out, uint64_t row_stride, cdna_workers* workers, cdna_error* error) {
  return cdna::c::guarded(
      error, [&] { return cdna::c::read_rows(reader, tensor, row_begin, row_end, dtype, out, row_stride, workers); });
}

}  // extern "C"
