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
#include "libcdna/write/codebook_planes.hpp"
#include "libcdna/write/writer_session.hpp"

namespace cdna {
namespace {

struct CodebookBlock {
  std::vector<Digest> source_pieces;  // Of the pieces that begin in the block.
  EncodedRows rows;                   // Outliers have moved on.
  PreparedBlock codes;
  PreparedBlock outliers;
};

// Bytes of a plane of scope 1, cut into its blocks. Without the plane there are none.
class SidePlane {
 public:
  SidePlane(const CodebookPlan& plan, std::size_t plane)
      : plane_(plane), block_bytes_(row_bytes_of(plan.planes[plane]) * plan.planes[plane].rows_per_block()) {}

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
        plan_(plan_codebook_planes(shape())),
        row_scales_(plan_, plan_.row_scales),
        group_scales_(plan_, plan_.group_scales),
        packet_(session.sink_, session.alignment_, std::move(draft), plan_.planes) {}

  Result<std::uint32_t> write() {
    CDNA_TRY(append_tables());
    OrderedRun<CodebookBlock> run(
        session_.pool_, [this](std::size_t i, unsigned worker) { return make_block(i, worker); },
        [this](std::size_t i, CodebookBlock& block) { return take_block(i, block); });
    CDNA_TRY(run.run(rows_.block_count()));
    CDNA_TRY(row_scales_.finish(packet_, session_.encoders_[0]));
    CDNA_TRY(group_scales_.finish(packet_, session_.encoders_[0]));
    return close();
  }

 private:
  // Outliers are left out in the end where there are none.
  CodebookShape shape() const {
    CodebookShape shape;
    shape.cols = coding_.cols;
    shape.bits = fit_.fitted.codebook.bits();
    shape.rows_per_block = rows_.rows_per_block;
    shape.codec = codec_;
    shape.group = options_.group;
    shape.outlier_dtype = rows_.dtype;
    shape.claim = options_.codebook_class == CodebookClass::affine ? kAffine : kPwl;
    shape.claim_entries = fit_.fitted.claim.size();
    return shape;
  }

  Result<void> append_table(std::size_t plane, std::span<const std::byte> bytes) {
    return packet_.append(plane, prepare_block(session_.encoders_[0], Codec::raw, copy_bytes(bytes)));
  }

  Result<void> append_tables() {
    CDNA_TRY(append_table(plan_.codebook, std::as_bytes(fit_.fitted.codebook.halves())));
    if (plan_.scale_table != 0)
      CDNA_TRY(append_table(plan_.scale_table, std::as_bytes(std::span(coding_.scales->table().values))));
    if (plan_.claim != 0) CDNA_TRY(append_table(plan_.claim, std::as_bytes(std::span(fit_.fitted.claim))));
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
    CDNA_TRY(packet_.append(plan_.outliers, block.outliers));
    sums_.add(block.rows.sums);
    has_nonfinite_ = has_nonfinite_ || block.rows.has_nonfinite;
    CDNA_TRY(row_scales_.append(packet_, session_.encoders_[0], std::as_bytes(std::span(block.rows.row_scales))));
    return group_scales_.append(packet_, session_.encoders_[0], std::as_bytes(std::span(block.rows.group_scales)));
  }

  Result<std::uint32_t> close() {
    WrittenItem written;
    written.statistics = sums_.statistics();
    const TensorStatistics& known = written.statistics;
    const std::array<double, kStatisticsEntries> entries{static_cast<double>(known.outlier_count),
                                                         known.excess_kurtosis, known.code_entropy_bits};
    CDNA_TRY(append_table(plan_.statistics, std::as_bytes(std::span(entries))));
    if (known.outlier_count == 0) packet_.drop(plan_.outliers);
    set_bytes(packet_.item().mutable_source_digest(), source_hasher_.finish());
    packet_.item().mutate_sum_squares(known.sum_squares);
    packet_.item().mutate_sum_squared_error(known.sum_squared_error);
    if (has_nonfinite_) packet_.item().mutate_optional_features(kOptionalNonfinite);
    return session_.close_item(packet_, written);
  }

  Session& session_;
  Codec codec_;
  const CodebookOptions& options_;
  const TensorRows& rows_;
  const FittedTensor& fit_;
  RowCoding coding_;
  std::vector<std::vector<std::byte>> buffers_;  // Of source bytes, per worker.
  CodebookPlan plan_;
  SidePlane row_scales_;
  SidePlane group_scales_;
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
