// A piece is some whole rows of a block, or where not even one fits, some tiles' columns of one row.
#include "libcdna_cuda/pieces.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "libcdna/file.hpp"
#include "libcdna/format/encoding_rules.hpp"
#include "libcdna/format/geometry.hpp"
#include "libcdna/format/wire.hpp"
#include "libcdna/try.hpp"
#include "libcdna_cuda/outliers.hpp"

namespace cdna::cuda {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kScaleAlignment = sizeof(float);

// Adds the time of its life.
class Filling {
 public:
  Filling(FillTimes& times, std::uint64_t bytes) : times_(&times) { times.bytes += bytes; }
  ~Filling() { times_->seconds += std::chrono::duration<double>(Clock::now() - begin_).count(); }
  Filling(const Filling&) = delete;
  Filling& operator=(const Filling&) = delete;

 private:
  FillTimes* times_;
  Clock::time_point begin_ = Clock::now();
};

// The block of a plane of scales that holds an entry of a row of the tensor.
std::uint64_t scale_block(const TensorPlan& plan, PlaneRole role, std::uint64_t row, std::uint64_t entry) {
  return block_at(*find_plane(file_of(plan.tensor).footer().item(plan.tensor.number()), role), row, entry);
}

}  // namespace

Result<void> send_bytes(Ring& ring, std::span<const std::byte> bytes, std::byte* destination, FillTimes& times) {
  while (!bytes.empty()) {
    const std::uint64_t step = std::min<std::uint64_t>(bytes.size(), ring.buffer_bytes());
    Ring::Buffer& buffer = *CDNA_TRY(ring.acquire());
    {
      const Filling filling(times, step);
      std::memcpy(buffer.data(), bytes.data(), step);
    }
    CDNA_TRY(ring.send(buffer, {.bytes = step, .destination = destination, .codes = {}, .scales = {}}));
    bytes = bytes.subspan(step);
    destination += step;
  }
  return {};
}

Result<void> take_row_scales(const TensorPlan& plan, const Block& block, std::span<float> row_scales) {
  if (row_scales.empty() || block.entry_begin != 0) return {};  // The first piece of a row that is cut brings it.
  for (std::uint64_t i = 0; i < block.row_count; ++i) {
    const std::uint64_t row = block.row_begin + i;
    if (row < plan.row_begin || row >= plan.row_end) continue;
    if (!std::isfinite(block.row_scales[i]))
      return not_finite(plan, kRowScale, scale_block(plan, kRowScale, row, 0), "a row scale is not finite");
    row_scales[row - plan.row_begin] = block.row_scales[i];
  }
  return {};
}

PieceSender::PieceSender(Ring& ring, const TensorPlan& plan, const Block& block, FillTimes& times)
    : ring_(&ring), plan_(&plan), block_(&block), times_(&times) {
  row_begin_ = std::max(plan.row_begin, block.row_begin) - block.row_begin;
  row_end_ = std::min(plan.row_end, block.row_begin + block.row_count) - block.row_begin;
  if (plan.group_scale_type == cdna_cuda::ScaleType::u8) scale_bytes_ = 1;
  if (plan.group_scale_type == cdna_cuda::ScaleType::f32) scale_bytes_ = sizeof(float);
}

std::uint64_t PieceSender::groups(std::uint64_t entries) const {
  return scale_bytes_ == 0 ? 0 : (entries + plan_->decoder.group - 1) / plan_->decoder.group;
}

std::uint64_t PieceSender::row_cost(std::uint64_t entries) const {
  return code_bytes(entries) + groups(entries) * scale_bytes_;
}

// All of a row, or as many tiles of it as fit into a buffer.
std::uint64_t PieceSender::entries_that_fit() const {
  const std::uint64_t room = ring_->buffer_bytes() - kScaleAlignment;
  if (row_cost(block_->entry_count) <= room) return block_->entry_count;
  return room / row_cost(cdna_cuda::kTileColumns) * cdna_cuda::kTileColumns;
}

Result<void> PieceSender::send_codes(void* tiles, void* group_scales) {
  const std::uint64_t entries = entries_that_fit();
  const std::uint64_t room = ring_->buffer_bytes() - kScaleAlignment;
  const std::uint64_t rows = entries == block_->entry_count ? room / row_cost(entries) : 1;
  for (std::uint64_t row = row_begin_; row < row_end_; row += rows) {
    for (std::uint64_t entry = 0; entry < block_->entry_count; entry += entries) {
      const Piece piece{row, std::min(rows, row_end_ - row), entry, std::min(entries, block_->entry_count - entry)};
      CDNA_TRY(send_piece(piece, tiles, group_scales));
    }
  }
  return {};
}

Result<void> PieceSender::send_piece(const Piece& piece, void* tiles, void* group_scales) {
  Shipment shipment;
  shipment.bytes = piece.rows * code_bytes(piece.entries);
  cdna_cuda::PackCodes& codes = shipment.codes;
  codes.row_bytes = code_bytes(piece.entries);
  codes.source_bits = plan_->decoder.bits;
  codes.row_begin = static_cast<std::uint32_t>(block_->row_begin + piece.row - plan_->row_begin);
  codes.row_count = static_cast<std::uint32_t>(piece.rows);
  codes.column_begin = static_cast<std::uint32_t>(block_->entry_begin + piece.entry);
  codes.column_count = static_cast<std::uint32_t>(piece.entries);
  codes.cols = static_cast<std::uint32_t>(plan_->cols);
  codes.tiles = tiles;
  if (scale_bytes_ != 0) {
    shipment.scales_offset = align_up(shipment.bytes, kScaleAlignment);
    shipment.bytes = shipment.scales_offset + piece.rows * groups(piece.entries) * scale_bytes_;
    cdna_cuda::PackScales& scales = shipment.scales;
    scales.type = plan_->group_scale_type;
    scales.row_begin = codes.row_begin;
    scales.row_count = codes.row_count;
    scales.column_begin = codes.column_begin;
    scales.column_count = codes.column_count;
    scales.cols = codes.cols;
    scales.group = plan_->decoder.group;
    scales.scales = group_scales;
  }
  Ring::Buffer& buffer = *CDNA_TRY(ring_->acquire());
  {
    const Filling filling(*times_, shipment.bytes);
    fill_codes(piece, buffer.data());
    if (scale_bytes_ != 0) CDNA_TRY(fill_scales(piece, buffer.data() + shipment.scales_offset));
  }
  return ring_->send(buffer, shipment);
}

void PieceSender::fill_codes(const Piece& piece, std::byte* out) const {
  const std::uint64_t row_bytes = block_->data.size() / block_->row_count;
  const std::uint64_t piece_bytes = code_bytes(piece.entries);
  const std::byte* from = block_->data.data() + piece.row * row_bytes + piece.entry * plan_->decoder.bits / 8;
  if (piece_bytes == row_bytes) {
    std::memcpy(out, from, piece.rows * row_bytes);
    return;
  }
  for (std::uint64_t row = 0; row < piece.rows; ++row)
    std::memcpy(out + row * piece_bytes, from + row * row_bytes, piece_bytes);
}

Result<void> PieceSender::fill_scales(const Piece& piece, std::byte* out) {
  const DType dtype = plan_->decoder.group_dtype;
  const std::uint64_t stored_bytes = bits_of(dtype) / 8;
  const std::uint64_t row_groups = groups(block_->entry_count);
  const std::uint64_t count = groups(piece.entries);
  for (std::uint64_t row = 0; row < piece.rows; ++row) {
    const std::byte* const from = block_->group_scales.data() +
                                  ((piece.row + row) * row_groups + piece.entry / plan_->decoder.group) * stored_bytes;
    std::byte* const to = out + row * count * scale_bytes_;
    if (dtype == DType::u8) {
      std::memcpy(to, from, count);
      continue;
    }
    for (std::uint64_t i = 0; i < count; ++i) {
      float scale = 0;
      convert_value(dtype, from + i * stored_bytes, DType::f32, reinterpret_cast<std::byte*>(&scale));
      if (!std::isfinite(scale)) {
        const std::uint64_t group = (block_->entry_begin + piece.entry) / plan_->decoder.group + i;
        const std::uint64_t number = scale_block(*plan_, kGroupScale, block_->row_begin + piece.row + row, group);
        return not_finite(*plan_, kGroupScale, number, "a group scale is not finite");
      }
      largest_scale_ = std::max(largest_scale_, std::abs(scale));
      std::memcpy(to + i * sizeof scale, &scale, sizeof scale);
    }
  }
  return {};
}

Result<void> PieceSender::send_elements(std::byte* destination) {
  const std::uint64_t element_bits = bits_of(plan_->tensor.dtype());
  const std::uint64_t row_bytes = block_->data.size() / block_->row_count;
  const std::span<const std::byte> bytes =
      block_->data.subspan(row_begin_ * row_bytes, (row_end_ - row_begin_) * row_bytes);
  const std::uint64_t tensor_row_bytes = (plan_->cols * element_bits + 7) / 8;
  const std::uint64_t row = block_->row_begin + row_begin_ - plan_->row_begin;
  return send_bytes(*ring_, bytes, destination + row * tensor_row_bytes + block_->entry_begin * element_bits / 8,
                    *times_);
}

}  // namespace cdna::cuda
