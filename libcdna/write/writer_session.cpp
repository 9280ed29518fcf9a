// Exact tensors, assets, aliases, metadata, footer and tail. The codebook half is codebook_writer.cpp.
#include "libcdna/write/writer_session.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "cdna/version.hpp"
#include "libcdna/format/encoding_rules.hpp"
#include "libcdna/format/metadata.hpp"
#include "libcdna/format/names.hpp"
#include "libcdna/format/tail.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::string_view kMetadataName = "metadata";
constexpr std::size_t kCopyBytes = std::size_t{1} << 20;

Result<BlockCoding> coding_of(const TensorSpec& spec) {
  if (spec.filter == Filter::none) return BlockCoding(spec.codec);
  CDNA_CHECK(spec.filter == Filter::byte_planes, Code::bad_argument, "U7", "the filter is not known");
  CDNA_CHECK(spec.codec == Codec::zstd && is_float(spec.dtype), Code::bad_argument, "U7",
             "byte planes are for codec zstd and dtype F16, BF16, F32 or F64");
  return BlockCoding::byte_planes(bits_of(spec.dtype) / 8);
}

std::uint8_t log2_of(std::uint64_t power) { return static_cast<std::uint8_t>(std::countr_zero(power)); }

}  // namespace

Writer::Session::Session(std::unique_ptr<Sink> sink, const WriterOptions& options)
    : alignment_(options.alignment),
      sink_(std::move(sink)),
      pool_(options.threads, ThreadPool::Start::when_needed),
      encoders_(pool_.size()),
      stop_(options.stop),
      walk_(log2_of(options.alignment)) {}

Result<void> Writer::Session::write_head() { return sink_.write(bytes_of(make_head(log2_of(alignment_)))); }

Result<void> Writer::Session::check_stop() const {
  CDNA_CHECK(stop_ == nullptr || !stop_->load(std::memory_order_relaxed), Code::cancelled, "", "stopped on request");
  return {};
}

Result<void> Writer::Session::check_new_name(bool tensor_class, const std::string& name, std::string_view type) {
  CDNA_CHECK(!open_.has_value(), Code::bad_argument, "", "a tensor has been begun and not ended");
  auto result = check_name(name);
  if (result) result = check_type(type);
  if (!result) {
    result.error().code = Code::bad_argument;
    result.error().item = name;
    return result;
  }
  if (!names_.emplace(tensor_class, name).second) {
    Error error = fail(Code::exists, "N5", "the name is taken");
    error.item = name;
    return error;
  }
  CDNA_CHECK(footer_.item_count() < kItemsHardMax - 1, Code::limit, "T14",
             "the file has 2^24 items, with its metadata");
  return {};
}

Result<ItemDraft> Writer::Session::draft_tensor(const TensorSpec& spec, std::string_view encoding) {
  CDNA_TRY(check_new_name(true, spec.name, encoding));
  CDNA_CHECK(is_known(spec.dtype), Code::bad_argument, "U2", "the dtype is not known");
  CDNA_CHECK(spec.shape.size() <= 8, Code::bad_argument, "I5", "the rank is over 8");
  u128 product = 1;
  for (const std::uint64_t dim : spec.shape) {
    product *= std::max<std::uint64_t>(dim, 1);
    CDNA_CHECK(product < kElementsEnd, Code::limit, "I8", "the product of the dimensions is 2^60 or more");
  }
  ItemDraft draft;
  draft.dims = spec.shape;
  draft.name = spec.name;
  draft.type = encoding;
  draft.item.mutate_kind(kTensor);
  draft.item.mutate_role(static_cast<std::uint16_t>(spec.role));
  draft.item.mutate_dtype(static_cast<std::uint8_t>(spec.dtype));
  draft.item.mutate_rank(static_cast<std::uint8_t>(spec.shape.size()));
  draft.item.mutate_row_dims(default_row_dims(spec.dtype, spec.shape));
  draft.item.mutate_name_length(static_cast<std::uint16_t>(draft.name.size()));
  draft.item.mutate_type_length(static_cast<std::uint16_t>(draft.type.size()));
  return draft;
}

Result<void> Writer::Session::begin_exact(const TensorSpec& spec) {
  const BlockCoding coding = CDNA_TRY(coding_of(spec));
  ItemDraft draft = CDNA_TRY(draft_tensor(spec, kExactEncoding));
  const MatrixView matrix = matrix_view(draft.dims, draft.item.row_dims());
  PlaneShape shape;
  shape.dtype = spec.dtype;
  shape.bits = bits_of(spec.dtype);
  shape.row_entries = matrix.cols;
  shape.rows_per_block =
      plan_rows_per_block(static_cast<std::uint64_t>((u128{matrix.cols} * shape.bits + 7) / 8), spec.role);
  shape.codec = spec.codec;
  open_item(std::move(draft), shape, coding);
  return {};
}

Result<void> Writer::Session::begin_asset(const std::string& name, const std::string& media_type, ItemDraft draft,
                                          std::uint64_t size_bytes, Codec codec) {
  CDNA_CHECK(size_bytes < kElementsEnd, Code::limit, "I8", "the asset has 2^60 bytes or more");
  draft.dims = {size_bytes};
  draft.name = name;
  draft.type = media_type;
  draft.item.mutate_dtype(static_cast<std::uint8_t>(DType::u8));
  draft.item.mutate_rank(1);
  draft.item.mutate_name_length(static_cast<std::uint16_t>(name.size()));
  draft.item.mutate_type_length(static_cast<std::uint16_t>(media_type.size()));
  PlaneShape shape;
  shape.dtype = DType::u8;
  shape.row_entries = size_bytes;
  shape.codec = codec;
  open_item(std::move(draft), shape, codec);
  return {};
}

void Writer::Session::open_item(ItemDraft draft, const PlaneShape& shape, const BlockCoding& coding) {
  const MatrixView matrix = matrix_view(draft.dims, draft.item.row_dims());
  const wire::Plane plane = make_plane(shape);
  open_.emplace(
      OpenItem{PacketWriter(sink_, alignment_, std::move(draft), {plane}), plane, matrix, coding, 0, 0, {}, 0, {}, {}});
  open_->block_count = static_cast<std::uint64_t>(block_count_of(plane, matrix));
  open_block();
}

void Writer::Session::open_block() {
  if (open_->next_block == open_->block_count) return;
  open_->missing_bytes = block_place(open_->plane, open_->matrix, open_->next_block++).decoded_bytes;
  open_->batch.emplace_back().reserve(open_->missing_bytes);
}

Result<void> Writer::Session::append(std::span<const std::byte> bytes) {
  CDNA_CHECK(open_.has_value(), Code::bad_argument, "", "no tensor has been begun");
  open_->source_hasher.update(bytes);
  if (!bytes.empty()) open_->last_byte = bytes.back();
  while (!bytes.empty()) {
    CDNA_CHECK(open_->missing_bytes > 0, Code::bad_argument, "", "more bytes than the tensor's shape and dtype give");
    const std::span<const std::byte> part = bytes.first(std::min<std::uint64_t>(bytes.size(), open_->missing_bytes));
    open_->batch.back().insert(open_->batch.back().end(), part.begin(), part.end());
    open_->missing_bytes -= part.size();
    bytes = bytes.subspan(part.size());
    if (open_->missing_bytes > 0) break;
    if (open_->batch.size() == 2 * std::size_t{pool_.size()}) CDNA_TRY(flush_batch());
    open_block();
  }
  return {};
}

Result<void> Writer::Session::flush_batch() {
  CDNA_TRY(check_stop());
  std::vector<PreparedBlock> prepared(open_->batch.size());
  const auto prepare = [&](std::size_t i, unsigned worker) -> Result<void> {
    prepared[i] = prepare_block(encoders_[worker], open_->coding, std::move(open_->batch[i]));
    return {};
  };
  CDNA_TRY(pool_.run(prepared.size(), prepare));
  open_->batch.clear();
  for (const PreparedBlock& block : prepared) CDNA_TRY(open_->packet.append(0, block));
  return {};
}

Result<std::uint32_t> Writer::Session::end() {
  CDNA_CHECK(open_.has_value(), Code::bad_argument, "", "no tensor has been begun");
  CDNA_CHECK(open_->missing_bytes == 0 && open_->next_block == open_->block_count, Code::bad_argument, "",
             "fewer bytes than the tensor's shape and dtype give");
  const std::uint64_t used_bits = open_->plane.row_entries() * open_->plane.bits() % 8;
  CDNA_CHECK(used_bits == 0 || std::to_integer<unsigned>(open_->last_byte) >> used_bits == 0, Code::bad_argument, "E4",
             "the unused bits after the last element are not zero");
  CDNA_TRY(flush_batch());
  set_bytes(open_->packet.item().mutable_source_digest(), open_->source_hasher.finish());
  const std::uint32_t number = CDNA_TRY(close_item(open_->packet, {}));
  open_.reset();
  return number;
}

Result<std::uint32_t> Writer::Session::copy_from(const ByteReader& data) {
  std::vector<std::byte> buffer(kCopyBytes);
  const std::uint64_t size = static_cast<std::uint64_t>(decoded_bytes_of(open_->plane, open_->matrix));
  for (std::uint64_t offset = 0; offset < size; offset += kCopyBytes) {
    const std::span<std::byte> part = std::span(buffer).first(std::min<std::uint64_t>(kCopyBytes, size - offset));
    CDNA_TRY(data(offset, part));
    CDNA_TRY(append(part));
  }
  return end();
}

Result<std::uint32_t> Writer::Session::close_item(PacketWriter& packet, WrittenItem written) {
  CDNA_TRY(check_stop());  // Also what was asked for while the last blocks were made.
  CDNA_TRY(packet.finish(walk_, footer_));
  written.stored_bytes = packet.stored_bytes();
  written.statistics.max_abs_error = static_cast<double>(packet.item().max_abs_error());
  written_.push_back(written);
  is_tensor_.push_back(packet.item().kind() == kTensor);
  return footer_.item_count() - 1;
}

Result<std::uint32_t> Writer::Session::add_alias(const std::string& name, std::uint32_t tensor) {
  CDNA_CHECK(tensor < is_tensor_.size() && is_tensor_[tensor], Code::bad_argument, "I13",
             "an alias must name an earlier tensor");
  CDNA_TRY(check_new_name(true, name, ""));
  ItemDraft draft;
  draft.dims = {tensor};
  draft.name = name;
  draft.item.mutate_kind(kAlias);
  draft.item.mutate_rank(1);
  draft.item.mutate_name_length(static_cast<std::uint16_t>(name.size()));
  PacketWriter packet(sink_, alignment_, std::move(draft), {});
  return close_item(packet, {});
}

Result<std::uint32_t> Writer::Session::add_asset(const std::string& name, const std::string& media_type,
                                                 std::uint64_t size_bytes, Codec codec, const ByteReader& data) {
  CDNA_CHECK(name != kMetadataName, Code::bad_argument, "", "an asset cannot be called 'metadata'");
  CDNA_TRY(check_new_name(false, name, media_type));
  ItemDraft draft;
  draft.item.mutate_kind(kAsset);
  CDNA_TRY(begin_asset(name, media_type, std::move(draft), size_bytes, codec));
  return copy_from(data);
}

Result<Digest> Writer::Session::finish(Metadata metadata) {
  CDNA_CHECK(!open_.has_value(), Code::bad_argument, "", "a tensor has been begun and not ended");
  metadata.try_emplace("cdna.writer", std::string(kWriterName));
  const std::vector<std::byte> content = CDNA_TRY(append_metadata(metadata));
  ItemDraft draft;
  draft.item.mutate_kind(kMetadata);
  CDNA_TRY(begin_asset(std::string(kMetadataName), "", std::move(draft), content.size(), Codec::raw));
  CDNA_TRY(append(content));
  CDNA_TRY(end());

  TailFields fields;
  fields.required_features = walk_.required_features();
  fields.optional_features = walk_.optional_features();
  fields.footer_offset = sink_.position();
  const std::vector<std::byte> footer = footer_.build();
  CDNA_CHECK(footer.size() <= kFooterBytesHardMax, Code::limit, "T13", "the footer is over 1 GiB");
  fields.footer_bytes = footer.size();
  fields.item_count = footer_.item_count();
  fields.footer_digest = sha256(footer);
  fields.align_log2 = log2_of(alignment_);
  const wire::Tail tail = make_tail(fields);
  CDNA_TRY(sink_.write(footer));
  CDNA_TRY(sink_.pad_to(align_up(sink_.position(), kPacketAlignment)));
  CDNA_TRY(sink_.write(bytes_of(tail)));
  CDNA_TRY(check_stop());
  CDNA_TRY(sink_.commit());
  return digest_in(tail.root());
}

}  // namespace cdna
