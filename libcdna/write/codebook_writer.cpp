// Tensors in the codebook encoding: one pass to measure, one to encode, both in parallel over blocks.
#include <algorithm>
#include <string>

#include "libcdna/encode/codebook_options.hpp"
#include "libcdna/format/encoding_rules.hpp"
#include "libcdna/try.hpp"
#include "libcdna/write/writer_session.hpp"

namespace cdna {
namespace {

enum CodebookPlane : std::size_t { kCodesAt, kCodebookAt, kRowScaleAt, kOutliersAt };

std::vector<std::byte> copy_bytes(std::span<const std::byte> bytes) { return {bytes.begin(), bytes.end()}; }

}  // namespace

struct Writer::Session::CodebookPlan {
  std::string name;
  DType dtype = DType::none;
  Codec codec = Codec::raw;
  MatrixView matrix;
  std::uint32_t rows_per_block = 1;
  std::uint32_t scale_rows_per_block = 1;
  Codebook codebook;
  float threshold = 0;

  std::uint64_t block_count() const { return (matrix.rows + rows_per_block - 1) / rows_per_block; }
  std::uint64_t row_begin(std::uint64_t block) const { return block * rows_per_block; }
  std::uint64_t row_count(std::uint64_t block) const {
    return std::min<std::uint64_t>(rows_per_block, matrix.rows - row_begin(block));
  }
  std::uint64_t row_bytes() const { return matrix.cols * bits_of(dtype) / 8; }

  // The source bytes of a block.
  Result<std::vector<std::byte>> read(std::uint64_t block, const ByteReader& data) const {
    std::vector<std::byte> bytes(row_count(block) * row_bytes());
    CDNA_TRY(data(row_begin(block) * row_bytes(), bytes));
    return bytes;
  }
};

struct Writer::Session::CodebookBlock {
  std::vector<std::byte> source;
  EncodedBlock encoded;  // Codes and outliers have moved on.
  PreparedBlock codes;
  PreparedBlock outliers;
};

Result<Histogram> Writer::Session::measure(const CodebookPlan& plan, const ByteReader& data) {
  std::vector<Histogram> partial(pool_.size());
  const auto measure_block = [&](std::size_t block, unsigned worker) -> Result<void> {
    CDNA_TRY(check_stop());
    const std::vector<std::byte> bytes = CDNA_TRY(plan.read(block, data));
    const std::uint64_t rows = plan.row_count(block);
    if (const auto position = find_nonfinite(plan.dtype, bytes, rows * plan.matrix.cols)) {
      const std::uint64_t row = plan.row_begin(block) + *position / plan.matrix.cols;
      Error error =
          fail(Code::bad_argument, "",
               "row " + std::to_string(row) + ", column " + std::to_string(*position % plan.matrix.cols) +
                   " is NaN, infinite, or beyond f32: keep this tensor exact (cdna convert --keep-exact NAME)");
      error.item = plan.name;
      return error;
    }
    add_rows(plan.dtype, bytes, rows, plan.matrix.cols, partial[worker]);
    return {};
  };
  CDNA_TRY(pool_.run(plan.block_count(), measure_block));
  for (std::size_t i = 1; i < partial.size(); ++i) partial[0].add(partial[i]);
  return std::move(partial[0]);
}

Result<Writer::Session::CodebookBlock> Writer::Session::encode_block(const CodebookPlan& plan, std::uint64_t number,
                                                                     const ByteReader& data,
                                                                     BlockEncoder& encoder) const {
  CodebookBlock block;
  block.source = CDNA_TRY(plan.read(number, data));
  block.encoded =
      encode_rows(plan.dtype, block.source, plan.row_count(number), plan.matrix.cols, plan.codebook, plan.threshold);
  CDNA_CHECK(block.encoded.outliers.size() <= kBlockBytesMax, Code::limit, "X3", "a block has over 16 MiB of outliers");
  block.codes = prepare_block(encoder, plan.codec, std::move(block.encoded.codes), block.encoded.max_abs_error);
  block.outliers = prepare_block(encoder, plan.codec, std::move(block.encoded.outliers));
  return block;
}

Result<void> Writer::Session::encode_tensor(const CodebookPlan& plan, const ByteReader& data, PacketWriter& packet,
                                            WrittenItem& written) {
  BulkHasher source_hasher;
  std::vector<float> scales;  // Of one block of the row_scale plane.
  const std::uint64_t blocks = plan.block_count();
  const std::uint64_t batch_size = 2 * std::uint64_t{pool_.size()};
  for (std::uint64_t first = 0; first < blocks; first += batch_size) {
    std::vector<CodebookBlock> batch(std::min(batch_size, blocks - first));
    const auto encode = [&](std::size_t i, unsigned worker) -> Result<void> {
      batch[i] = CDNA_TRY(encode_block(plan, first + i, data, encoders_[worker]));
      return {};
    };
    CDNA_TRY(pool_.run(batch.size(), encode));
    CDNA_TRY(check_stop());
    for (const CodebookBlock& block : batch) {
      source_hasher.update(block.source);
      CDNA_TRY(packet.append(kCodesAt, block.codes));
      CDNA_TRY(packet.append(kOutliersAt, block.outliers));
      written.statistics.outlier_count += block.encoded.outlier_count;
      written.statistics.sum_squares += block.encoded.sum_squares;
      written.statistics.sum_squared_error += block.encoded.sum_squared_error;
      scales.insert(scales.end(), block.encoded.row_scales.begin(), block.encoded.row_scales.end());
      if (scales.size() == plan.scale_rows_per_block) {
        CDNA_TRY(packet.append(kRowScaleAt,
                               prepare_block(encoders_[0], Codec::raw, copy_bytes(std::as_bytes(std::span(scales))))));
        scales.clear();
      }
    }
  }
  if (!scales.empty())
    CDNA_TRY(packet.append(kRowScaleAt,
                           prepare_block(encoders_[0], Codec::raw, copy_bytes(std::as_bytes(std::span(scales))))));
  set_bytes(packet.item().mutable_source_digest(), source_hasher.finish());
  packet.item().mutate_sum_squares(written.statistics.sum_squares);
  packet.item().mutate_sum_squared_error(written.statistics.sum_squared_error);
  return {};
}

Result<std::uint32_t> Writer::Session::add_codebook(const TensorSpec& spec, const CodebookOptions& options,
                                                    const ByteReader& data) {
  CDNA_CHECK(is_float(spec.dtype), Code::bad_argument, "", "only F16, BF16, F32 and F64 can be codebook-encoded");
  CDNA_TRY(check_options(options));
  ItemDraft draft = CDNA_TRY(draft_tensor(spec, kCodebookEncoding));
  CodebookPlan plan;
  plan.name = spec.name;
  plan.dtype = spec.dtype;
  plan.codec = spec.codec;
  plan.matrix = matrix_view(draft.dims, draft.item.row_dims());
  CDNA_CHECK(plan.matrix.rows >= 1 && plan.matrix.cols >= 1 && plan.matrix.cols <= kBlockBytesMax, Code::bad_argument,
             "", "a codebook tensor needs at least one element, and at most 2^24 columns");
  plan.rows_per_block = plan_rows_per_block(plan.matrix.cols, spec.role);
  plan.scale_rows_per_block = plan_side_rows_per_block(sizeof(float), plan.rows_per_block);
  const Histogram histogram = CDNA_TRY(measure(plan, data));
  plan.threshold = outlier_threshold(histogram, options.outlier_fraction);
  plan.codebook = fit_codebook(histogram, plan.threshold);

  std::vector<wire::Plane> planes(4);
  planes[kCodesAt] = make_plane({kCodes, DType::none, 8, kRows, plan.matrix.cols, plan.rows_per_block, spec.codec});
  planes[kCodebookAt] = make_plane({kCodebook, DType::f16, 16, kWhole, Codebook::kSize, 1, Codec::raw});
  planes[kRowScaleAt] = make_plane({kRowScale, DType::f32, 32, kRows, 1, plan.scale_rows_per_block, Codec::raw});
  planes[kOutliersAt] = make_plane({kOutliers, spec.dtype, 8, kPerBlock, 0, 0, spec.codec});
  PacketWriter packet(sink_, alignment_, std::move(draft), planes);
  CDNA_TRY(packet.append(
      kCodebookAt, prepare_block(encoders_[0], Codec::raw, copy_bytes(std::as_bytes(std::span(plan.codebook.half))))));
  WrittenItem written;
  CDNA_TRY(encode_tensor(plan, data, packet, written));
  return close_item(packet, written);
}

}  // namespace cdna
