// Tensors in the codebook encoding: one pass to fit, one to encode. Blocks are encoded in parallel and written in
// order.
#include <algorithm>
#include <array>
#include <string>

#include "libcdna/encode/codebook_options.hpp"
#include "libcdna/encode/row_encoder.hpp"
#include "libcdna/encode/scale_table.hpp"
#include "libcdna/encode/tensor_fit.hpp"
#include "libcdna/format/encoding_rules.hpp"
#include "libcdna/ordered_run.hpp"
#include "libcdna/try.hpp"
#include "libcdna/write/writer_session.hpp"

namespace cdna {
namespace {

std::vector<std::byte> copy_bytes(std::span<const std::byte> bytes) { return {bytes.begin(), bytes.end()}; }

struct CodebookBlock {
  std::vector<Digest> source_pieces;  // Of the pieces that begin in the block.
  EncodedRows rows;                   // Outliers have moved on.
  PreparedBlock codes;
  PreparedBlock outliers;
};

// Bytes of a plane of scope 1, cut into its blocks.
class SidePlane {
 public:
  SidePlane(std::size_t plane, std::uint64_t row_bytes, std::uint32_t rows_per_block)
      : plane_(plane), block_bytes_(row_bytes * rows_per_block) {}

  Result<void> append(PacketWriter& packet, BlockEncoder& encoder, std::span<const std::byte> rows) {
    pending_.insert(pending_.end(), rows.begin(), rows.end());
    return pending_.size() == block_bytes_ ? finish(packet, encoder) : Result<void>();
  }

  Result<void> finish(PacketWriter& packet, BlockEncoder& encoder) {
    if (pending_.empty()) return {};
    return packet.append(plane_, prepare_block(encoder, Codec::raw, std::exchange(pending_, {})));
  }

 private:
  std::size_t plane_;
  std::uint64_t block_bytes_;
  std::vector<std::byte> pending_;
};

}  // namespace

// One tensor on its way into the file.
class Writer::Session::CodebookTensor {
 public:
  CodebookTensor(Session& session, const TensorSpec& spec, const CodebookOptions& options, const TensorRows& rows,
                 const FittedTensor& fit, ItemDraft draft)
      : session_(session),
        codec_(spec.codec),
        options_(options),
        rows_(rows),
        fit_(fit),
        coding_{rows.dtype,       rows.matrix.cols, options, &fit.fitted.codebook, &ScaleTable::of(options.entries),
                fit.outlier_bound},
        buffers_(session.pool_.size()),
        packet_(session.sink_, session.alignment_, std::move(draft), plan_planes()) {}

  Result<std::uint32_t> write() {
    CDNA_TRY(append_tables());
    OrderedRun<CodebookBlock> run(
        session_.pool_, [this](std::size_t i, unsigned worker) { return make_block(i, worker); },
        [this](std::size_t i, CodebookBlock& block) { return take_block(i, block); });
    CDNA_TRY(run.run(rows_.block_count()));
    for (SidePlane& side : sides_) CDNA_TRY(side.finish(packet_, session_.encoders_[0]));
    return close();
  }

 private:
  // The planes in the order of spec/format.md, 13.2; outliers are left out in the end where there are none.
  std::vector<wire::Plane> plan_planes() {
    const Codebook& codebook = fit_.fitted.codebook;
    std::vector<wire::Plane> planes;
    const auto add = [&planes](const PlaneShape& shape) {
      planes.push_back(make_plane(shape));
      return planes.size() - 1;
    };
    add({kCodes, DType::none, codebook.bits(), kRows, coding_.cols, rows_.rows_per_block, codec_});
    codebook_at_ = add({kCodebook, DType::f16, 16, kWhole, codebook.halves().size(), 1, Codec::raw});
    const auto add_side = [&](PlaneRole role, DType dtype, std::uint32_t bits, std::uint64_t entries) {
      const std::uint64_t row_bytes = entries * bits / 8;
      const std::uint32_t rows_per_block = plan_side_rows_per_block(row_bytes, rows_.rows_per_block);
      const std::size_t plane = add({role, dtype, bits, kRows, entries, rows_per_block, Codec::raw});
      sides_.emplace_back(plane, row_bytes, rows_per_block);
      return plane;
    };
    add_side(kRowScale, DType::f32, 32, 1);
    if (options_.group != 0) {
      planes[add_side(kGroupScale, DType::u8, 8, coding_.group_count())].mutate_group(
          static_cast<std::uint16_t>(options_.group));
      scale_table_at_ = add({kScaleTable, DType::f32, 32, kWhole, 256, 1, Codec::raw});
    }
    outliers_at_ = add({kOutliers, rows_.dtype, 8, kPerBlock, 0, 0, codec_});
    if (!fit_.fitted.claim.empty()) {
      const PlaneRole role = options_.codebook_class == CodebookClass::affine ? kAffine : kPwl;
      claim_at_ = add({role, DType::f16, 16, kWhole, fit_.fitted.claim.size(), 1, Codec::raw});
    }
    statistics_at_ = add({kStatistics, DType::f64, 64, kWhole, kStatisticsEntries, 1, Codec::raw});
    return planes;
  }

  Result<void> append_table(std::size_t plane, std::span<const std::byte> bytes) {
    return packet_.append(plane, prepare_block(session_.encoders_[0], Codec::raw, copy_bytes(bytes)));
  }

  Result<void> append_tables() {
    CDNA_TRY(append_table(codebook_at_, std::as_bytes(fit_.fitted.codebook.halves())));
    if (scale_table_at_ != 0)
      CDNA_TRY(append_table(scale_table_at_, std::as_bytes(std::span(coding_.scales->table().values))));
    if (claim_at_ != 0) CDNA_TRY(append_table(claim_at_, std::as_bytes(std::span(fit_.fitted.claim))));
    return {};
  }

  Result<CodebookBlock> make_block(std::uint64_t number, unsigned worker) {
    CDNA_TRY(rows_.check_stop());
    const std::uint64_t begin = rows_.row_begin(number) * rows_.row_bytes();
    const std::uint64_t size = rows_.row_count(number) * rows_.row_bytes();
    // With the rest of the last piece that begins in the block.
    const std::uint64_t end = std::min(align_up(begin + size, kPieceBytes), rows_.matrix.rows * rows_.row_bytes());
    const std::span<const std::byte> source = CDNA_TRY(rows_.bytes(begin, end - begin, buffers_[worker]));
    CodebookBlock block;
    const std::uint64_t first_piece = align_up(begin, kPieceBytes) - begin;
    if (first_piece < size) append_piece_digests(source.subspan(first_piece), block.source_pieces);
    std::vector<std::byte> codes(rows_.row_count(number) * coding_.code_bytes());
    block.rows = RowEncoder(coding_).encode(source.first(size), codes);
    BlockEncoder& encoder = session_.encoders_[worker];
    EncodedRows& rows = block.rows;
    if (rows.first_nonfinite && options_.nonfinite == Nonfinite::refuse)
      return rows_.nonfinite_at(rows_.row_begin(number) * coding_.cols + *rows.first_nonfinite);
    std::vector<std::byte> outliers = std::move(rows.outlier_values);
    const std::span<const std::byte> positions = std::as_bytes(std::span(rows.outlier_positions));
    outliers.insert(outliers.end(), positions.begin(), positions.end());
    CDNA_CHECK(outliers.size() <= kBlockBytesMax, Code::limit, "X3", "a block has over 16 MiB of outliers");
    block.codes = prepare_block(encoder, codec_, std::move(codes), rounded_up(rows.sums.error_max));
    block.outliers = prepare_block(encoder, codec_, std::move(outliers));
    return block;
  }

  Result<void> take_block(std::uint64_t, const CodebookBlock& block) {
    source_hasher_.update_pieces(block.source_pieces);
    CDNA_TRY(packet_.append(0, block.codes));
    CDNA_TRY(packet_.append(outliers_at_, block.outliers));
    sums_.add(block.rows.sums);
    has_nonfinite_ = has_nonfinite_ || block.rows.has_nonfinite;
    CDNA_TRY(sides_[0].append(packet_, session_.encoders_[0], std::as_bytes(std::span(block.rows.row_scales))));
    if (sides_.size() == 1) return {};
    return sides_[1].append(packet_, session_.encoders_[0], std::as_bytes(std::span(block.rows.group_scales)));
  }

  Result<std::uint32_t> close() {
    WrittenItem written;
    written.statistics = sums_.statistics();
    const TensorStatistics& known = written.statistics;
    const std::array<double, kStatisticsEntries> entries{static_cast<double>(known.outlier_count),
                                                         known.excess_kurtosis, known.code_entropy_bits};
    CDNA_TRY(append_table(statistics_at_, std::as_bytes(std::span(entries))));
    if (known.outlier_count == 0) packet_.drop(outliers_at_);
    set_bytes(packet_.item().mutable_source_digest(), source_hasher_.finish());
    packet_.item().mutate_sum_squares(known.sum_squares);
    packet_.item().mutate_sum_squared_error(known.sum_squared_error);
    if (has_nonfinite_) packet_.item().mutate_optional_features(kOptionalNonfinite);
    return session_.close_item(packet_, written);
  }

  static constexpr std::size_t kStatisticsEntries = 3;

  Session& session_;
  Codec codec_;
  const CodebookOptions& options_;
  const TensorRows& rows_;
  const FittedTensor& fit_;
  RowCoding coding_;
  std::vector<std::vector<std::byte>> buffers_;  // Of source bytes, per worker.
  std::vector<SidePlane> sides_;                 // Row scales, then group scales.
  // Numbers of planes; 0 where there is none.
  std::size_t codebook_at_ = 0;
  std::size_t scale_table_at_ = 0;
  std::size_t outliers_at_ = 0;
  std::size_t claim_at_ = 0;
  std::size_t statistics_at_ = 0;
  PacketWriter packet_;
  BulkHasher source_hasher_;
  ErrorSums sums_;
  bool has_nonfinite_ = false;
};

Result<std::uint32_t> Writer::Session::add_codebook(const TensorSpec& spec, const CodebookOptions& options,
                                                    const ByteReader& data) {
  CDNA_CHECK(is_float(spec.dtype), Code::bad_argument, "", "only F16, BF16, F32 and F64 can be codebook-encoded");
  CDNA_CHECK(spec.filter == Filter::none, Code::bad_argument, "U7", "byte planes are for exact tensors");
  CDNA_TRY(check_options(options));
  ItemDraft draft = CDNA_TRY(draft_tensor(spec, kCodebookEncoding));
  TensorRows rows;
  rows.dtype = spec.dtype;
  rows.matrix = matrix_view(draft.dims, draft.item.row_dims());
  rows.data = &data;
  rows.stop = stop_;
  CDNA_CHECK(rows.matrix.rows >= 1 && rows.matrix.cols >= 1 && rows.matrix.cols <= kBlockBytesMax, Code::bad_argument,
             "", "a codebook tensor needs at least one element, and at most 2^24 columns");
  const std::uint64_t code_bytes = (rows.matrix.cols * code_bits(options) + 7) / 8;
  rows.rows_per_block = plan_rows_per_block(code_bytes, spec.role);
  const FittedTensor fit = CDNA_TRY(fit_tensor(rows, options, pool_));
  return CodebookTensor(*this, spec, options, rows, fit, std::move(draft)).write();
}

}  // namespace cdna
