// The public reading classes: views over File.
#include "cdna/reader.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "libcdna/block_reader.hpp"
#include "libcdna/decode/codebook.hpp"
#include "libcdna/file.hpp"
#include "libcdna/format/encoding_rules.hpp"
#include "libcdna/format/metadata.hpp"
#include "libcdna/format/small_floats.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/recorded_statistics.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

ItemView view_of(const File& file, std::uint32_t number) { return file.footer().item(number); }

}  // namespace

std::string_view Item::name() const { return view_of(*file_, number_).name; }
std::string_view Item::type() const { return view_of(*file_, number_).type; }
ItemKind Item::kind() const { return static_cast<ItemKind>(view_of(*file_, number_).item->kind()); }
Role Item::role() const { return static_cast<Role>(view_of(*file_, number_).item->role()); }
DType Item::dtype() const { return static_cast<DType>(view_of(*file_, number_).item->dtype()); }
std::span<const std::uint64_t> Item::shape() const { return view_of(*file_, number_).dims; }
std::uint64_t Item::rows() const { return view_of(*file_, number_).matrix().rows; }
std::uint64_t Item::cols() const { return view_of(*file_, number_).matrix().cols; }
std::uint64_t Item::element_count() const { return rows() * cols(); }
std::uint32_t Item::plane_count() const { return view_of(*file_, number_).item->plane_count(); }
std::uint64_t Item::block_count() const { return view_of(*file_, number_).item->entry_count(); }
std::uint64_t Item::index_offset() const { return view_of(*file_, number_).item->index_offset(); }
Digest Item::index_digest() const { return digest_in(view_of(*file_, number_).item->index_digest()); }
Digest Item::source_digest() const { return digest_in(view_of(*file_, number_).item->source_digest()); }
double Item::sum_squares() const { return view_of(*file_, number_).item->sum_squares(); }
double Item::sum_squared_error() const { return view_of(*file_, number_).item->sum_squared_error(); }
double Item::max_abs_error() const { return static_cast<double>(view_of(*file_, number_).item->max_abs_error()); }
bool Item::may_be_nonfinite() const {
  return (view_of(*file_, number_).item->optional_features() & kOptionalNonfinite) != 0;
}

Result<std::uint32_t> Item::filters(std::uint32_t index) const {
  return no_throw([&]() -> Result<std::uint32_t> {
    const TouchedPlane plane = CDNA_TRY(file_->touch(number_, index));
    std::uint32_t filters = 0;
    for (std::uint64_t block = 0; block < plane.plane->block_count(); ++block)
      filters |= std::uint32_t{1} << std::min<std::uint32_t>(plane.entry(block).filter(), 31);
    return filters;
  });
}

PlaneInfo Item::plane(std::uint32_t index) const {
  const ItemView view = view_of(*file_, number_);
  const wire::Plane& plane = view.planes[index];
  PlaneInfo info;
  info.role = plane.role();
  info.dtype = static_cast<DType>(plane.dtype());
  info.bits = plane.bits();
  info.scope = plane.scope();
  info.layout = plane.layout();
  info.codecs = plane.codecs();
  info.group = plane.group();
  info.offset = plane.offset();
  info.stored_bytes = plane.stored_length();
  info.rows = rows_of(plane, view.matrix());
  info.row_entries = plane.row_entries();
  info.vector = plane.vector();
  info.rows_per_block = plane.rows_per_block();
  info.block_count = plane.block_count();
  return info;
}

std::uint64_t Item::source_bytes() const {
  return static_cast<std::uint64_t>((u128{element_count()} * bits_of(dtype()) + 7) / 8);
}

std::uint64_t Item::stored_bytes() const {
  std::uint64_t bytes = sizeof(wire::IndexEntry) * block_count();
  for (const wire::Plane& plane : view_of(*file_, number_).planes) bytes += plane.stored_length();
  return bytes;
}

std::uint64_t Item::record_bytes() const { return record_bytes_of(*view_of(*file_, number_).item); }

Result<void> Item::verify() const {
  return no_throw([&]() -> Result<void> {
    const TouchedItem* const touched = CDNA_TRY(file_->touch(number_));
    const ItemView view = view_of(*file_, number_);
    std::uint64_t largest = 0;
    for (const wire::IndexEntry& entry : touched->entries)
      largest = std::max<std::uint64_t>(largest, entry.stored_length());
    std::vector<std::byte> buffer(file_->zero_copy() ? 0 : largest);
    for (std::uint32_t number = 0; number < view.planes.size(); ++number) {
      const TouchedPlane plane = CDNA_TRY(file_->touch(number_, number));
      const std::uint64_t end = plane.plane->block_count();
      for (std::uint64_t block = 0; block < end; ++block) {
        if (block + 1 < end) file_->prefetch(plane, block + 1);
        CDNA_TRY(file_->stored_block(plane, block, buffer));
      }
    }
    return {};
  });
}

Result<void> Item::read_plane(std::uint32_t index, std::span<std::byte> out) const {
  return no_throw([&]() -> Result<void> {
    const PlaneInfo info = plane(index);
    CDNA_CHECK(info.role != kOutliers, Code::bad_argument, "", "outliers are read block by block");
    PlaneReader reader = CDNA_TRY(PlaneReader::create(*file_, number_, index, info.block_count));
    for (std::uint64_t block = 0; block < info.block_count; ++block) {
      const std::span<const std::byte> bytes = CDNA_TRY(reader.fetch(block));
      CDNA_CHECK(bytes.size() <= out.size(), Code::bad_argument, "", "the plane is larger than the output");
      std::copy(bytes.begin(), bytes.end(), out.begin());
      out = out.subspan(bytes.size());
    }
    CDNA_CHECK(out.empty(), Code::bad_argument, "", "the plane is smaller than the output");
    return {};
  });
}

// ---- BlockRange ----

BlockRange::BlockRange(std::unique_ptr<BlockReader> reader, std::uint64_t begin, std::uint64_t end)
    : reader_(std::move(reader)), next_(begin), end_(end), current_(Block{}) {}
BlockRange::BlockRange(BlockRange&&) noexcept = default;
BlockRange& BlockRange::operator=(BlockRange&&) noexcept = default;
BlockRange::~BlockRange() = default;

BlockRange::Iterator BlockRange::begin() {
  step();
  return Iterator(*this);
}

void BlockRange::step() {
  if (next_ < end_) current_ = no_throw([this] { return reader_->fetch(next_); });
  ++next_;
}

// ---- Tensor ----

Result<void> Tensor::check_supported() const {
  return no_throw([&]() -> Result<void> {
    auto result = cdna::check_supported(view_of(*file_, number_));
    if (!result) return file_->placed(std::move(result).error(), number_);
    return {};
  });
}

Result<BlockRange> Tensor::blocks(std::uint64_t begin, std::uint64_t end) const {
  return no_throw([&]() -> Result<BlockRange> {
    assert(begin <= end && end <= rows());
    CDNA_TRY(check_supported());
    const ItemView view = view_of(*file_, number_);
    const wire::Plane& plane = view.planes[0];
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    if (begin < end && plane.block_count() > 0) {
      first = block_at(plane, begin, 0);
      last = block_at(plane, end - 1, plane.row_entries() - 1) + 1;
    }
    return numbered_blocks(first, last);
  });
}

Result<BlockRange> Tensor::numbered_blocks(std::uint64_t begin, std::uint64_t end) const {
  return no_throw([&]() -> Result<BlockRange> {
    CDNA_TRY(check_supported());
    assert(begin <= end && end <= view_of(*file_, number_).planes[0].block_count());
    auto reader = CDNA_TRY(BlockReader::create(*file_, number_, begin, end));
    return BlockRange(std::move(reader), begin, end);
  });
}

std::uint64_t Tensor::row_bytes(DType wanted) const {
  return static_cast<std::uint64_t>((u128{cols()} * bits_of(wanted) + 7) / 8);
}

namespace {

// The rows of a block that lie in [begin, end), as offsets within the block.
struct RowSlice {
  std::uint64_t begin;
  std::uint64_t end;
};

RowSlice slice_of(const Block& block, std::uint64_t begin, std::uint64_t end) {
  return {std::max(begin, block.row_begin) - block.row_begin,
          std::min(end, block.row_begin + block.row_count) - block.row_begin};
}

void copy_rows(const Block& block, RowSlice rows, std::uint64_t begin, std::uint64_t row_bytes, std::uint32_t bits,
               std::span<std::byte> out) {
  const std::uint64_t block_row_bytes = block.data.size() / block.row_count;
  const std::uint64_t at = block.entry_begin * bits / 8;  // A cut lies at a whole byte.
  for (std::uint64_t row = rows.begin; row < rows.end; ++row) {
    std::memcpy(out.data() + (block.row_begin + row - begin) * row_bytes + at,
                block.data.data() + row * block_row_bytes, block_row_bytes);
  }
}

void convert_rows(const Block& block, RowSlice rows, std::uint64_t begin, DType from, DType to, std::uint64_t row_bytes,
                  std::span<std::byte> out) {
  const std::uint64_t from_bytes = bits_of(from) / 8;
  const std::uint64_t to_bytes = bits_of(to) / 8;
  for (std::uint64_t row = rows.begin; row < rows.end; ++row) {
    const std::byte* value = block.data.data() + row * block.entry_count * from_bytes;
    std::byte* place = out.data() + (block.row_begin + row - begin) * row_bytes + block.entry_begin * to_bytes;
    for (std::uint64_t i = 0; i < block.entry_count; ++i, value += from_bytes, place += to_bytes)
      convert_value(from, value, to, place);
  }
}

struct ValueWriter {
  const RowDecoder& decoder;
  DType outlier_dtype;
  DType dtype;
  std::uint64_t begin;      // First row of `out`.
  std::uint64_t row_bytes;  // Of `out`.
  std::span<std::byte> out;
  std::vector<float> scratch;
  std::uint64_t next_outlier = 0;  // Of the block, where they come before the end of a row.

  std::byte* place(const Block& block, std::uint64_t row, std::uint64_t entry) {
    return out.data() + (block.row_begin + row - begin) * row_bytes +
           (block.entry_begin + entry) * (bits_of(dtype) / 8);
  }

  void write_rows(const Block& block, RowSlice rows) {
    const std::uint64_t code_bytes = block.data.size() / block.row_count;
    const std::uint64_t scale_bytes = block.group_scales.size() / block.row_count;
    const std::uint64_t offset_bytes = block.group_offsets.size() / block.row_count;
    scratch.resize(block.entry_count);
    next_outlier = 0;
    for (std::uint64_t row = rows.begin; row < rows.end; ++row) {
      const float row_scale = block.row_scales.empty() ? 1.0F : block.row_scales[row];
      decoder.decode(block.data.subspan(row * code_bytes, code_bytes), row_scale,
                     block.group_scales.subspan(row * scale_bytes, scale_bytes),
                     block.group_offsets.subspan(row * offset_bytes, offset_bytes), scratch);
      if (decoder.finishes()) finish_row(block, row);
      convert_values(scratch, dtype, place(block, row, 0));
    }
    if (!decoder.finishes()) write_outliers(block, rows);
  }

  // Outliers take part in what comes after them. Rows of a block come in ascending order.
  void finish_row(const Block& block, std::uint64_t row) {
    const std::uint64_t value_bytes = bits_of(outlier_dtype) / 8;
    const std::uint64_t first = row * block.entry_count;
    for (; next_outlier < block.outlier_count; ++next_outlier) {
      const std::uint64_t position = load<std::uint32_t>(block.outlier_positions.subspan(4 * next_outlier));
      if (position >= first + block.entry_count) break;
      if (position < first) continue;
      convert_value(outlier_dtype, block.outlier_values.data() + next_outlier * value_bytes, DType::f32,
                    reinterpret_cast<std::byte*>(&scratch[position - first]));
    }
    decoder.finish(block.low_rank_left.subspan(row * decoder.rank, decoder.rank), block.entry_begin, scratch);
  }

  void write_outliers(const Block& block, RowSlice rows) {
    const std::uint64_t value_bytes = bits_of(outlier_dtype) / 8;
    for (std::uint64_t i = 0; i < block.outlier_count; ++i) {
      const std::uint64_t position = load<std::uint32_t>(block.outlier_positions.subspan(4 * i));
      const std::uint64_t row = position / block.entry_count;
      if (row < rows.begin || row >= rows.end) continue;
      convert_value(outlier_dtype, block.outlier_values.data() + i * value_bytes, dtype,
                    place(block, row, position % block.entry_count));
    }
  }
};

}  // namespace

Result<void> Tensor::read_rows(std::uint64_t begin, std::uint64_t end, DType wanted, std::span<std::byte> out) const {
  return no_throw([&]() -> Result<void> {
    auto result = decode_rows(begin, end, wanted, out);
    const bool broken = !result && (result.error().code == Code::malformed || result.error().code == Code::corrupt);
    const bool no_codes = result && element_count() == 0;
    if (begin != 0 || end != rows() || !(broken || no_codes)) return result;
    // Decoding goes block by block through all planes at once. Of several rules that a whole tensor breaks, the first
    // in the order of spec/format.md 16.2 is reported; without codes nothing has read the other planes.
    CDNA_TRY(verify());
    if (encoding() == kCodebookEncoding) CDNA_TRY(read_planes(*file_, number_));
    return result;
  });
}

Result<void> Tensor::decode_rows(std::uint64_t begin, std::uint64_t end, DType wanted, std::span<std::byte> out) const {
  assert(begin <= end && end <= rows() && out.size() == (end - begin) * row_bytes(wanted));
  CDNA_TRY(check_supported());
  const bool exact = encoding() == kExactEncoding;
  const bool small = exact && is_small_float(dtype());
  const bool converts = is_float(wanted) && (is_float(dtype()) || small);
  CDNA_CHECK(converts || (exact && wanted == dtype()), Code::bad_argument, "",
             "a tensor of " + std::string(name_of(dtype())) + " cannot be read as " + std::string(name_of(wanted)));
  BlockRange range = CDNA_TRY(blocks(begin, end));
  if (exact && (wanted == dtype() || !small)) {
    for (const Result<Block>& block : range) {
      if (!block) return block.error();
      const RowSlice rows = slice_of(*block, begin, end);
      if (wanted == dtype()) {
        copy_rows(*block, rows, begin, row_bytes(wanted), bits_of(wanted), out);
      } else {
        convert_rows(*block, rows, begin, dtype(), wanted, row_bytes(wanted), out);
      }
    }
    return {};
  }
  const ItemView view = view_of(*file_, number_);
  RowDecoder decoder = small ? RowDecoder::of(dtype()) : RowDecoder::of(view, *CDNA_TRY(file_->tables(number_)));
  if (decoder.finishes()) decoder.finish_tables = CDNA_TRY(file_->finish_tables(number_));
  const wire::Plane* const outliers = find_plane(view, kOutliers);
  ValueWriter writer{decoder,
                     outliers == nullptr ? DType::f32 : static_cast<DType>(outliers->dtype()),
                     wanted,
                     begin,
                     row_bytes(wanted),
                     out,
                     {},
                     0};
  for (const Result<Block>& block : range) {
    if (!block) return block.error();
    const RowSlice rows = slice_of(*block, begin, end);
    writer.write_rows(*block, rows);
  }
  return {};
}

Result<std::span<const std::byte>> Tensor::contiguous() const {
  return no_throw([&]() -> Result<std::span<const std::byte>> {
    CDNA_TRY(check_supported());
    const wire::Plane& plane = view_of(*file_, number_).planes[0];
    CDNA_CHECK(encoding() == kExactEncoding && plane.layout() == kContiguous && file_->zero_copy(), Code::bad_argument,
               "", "only an exact tensor in contiguous layout has one pointer, and only in zero-copy mode");
    return plane_bytes(0);
  });
}

Result<std::span<const float>> Tensor::codebook() const {
  return no_throw([&]() -> Result<std::span<const float>> {
    CDNA_TRY(check_supported());
    CDNA_CHECK(encoding() == kCodebookEncoding, Code::bad_argument, "", "the tensor has no codebook");
    const CodebookTables* const tables = CDNA_TRY(file_->tables(number_));
    return std::span<const float>(tables->codebook);
  });
}

Result<TensorStatistics> Tensor::statistics() const {
  return no_throw([&]() -> Result<TensorStatistics> {
    CDNA_TRY(check_supported());
    return load_statistics(*file_, number_);
  });
}

// ---- Asset ----

Result<void> Asset::read(std::uint64_t offset, std::span<std::byte> out) const {
  return no_throw([&]() -> Result<void> {
    assert(offset <= size_bytes() && out.size() <= size_bytes() - offset);
    const ItemView view = view_of(*file_, number_);
    if (auto result = cdna::check_supported(view); !result) return file_->placed(std::move(result).error(), number_);
    if (out.empty()) return {};
    const wire::Plane& plane = view.planes[0];
    const std::uint64_t first = block_at(plane, 0, offset);
    const std::uint64_t last = block_at(plane, 0, offset + out.size() - 1);
    const auto reader = CDNA_TRY(BlockReader::create(*file_, number_, first, last + 1));
    const bool whole = out.size() == size_bytes();
    for (std::uint64_t number = first; number <= last; ++number) {
      auto fetched = reader->fetch(number);
      if (!fetched && whole) CDNA_TRY(verify());  // Of a whole item, damage is reported before what decoders say.
      const Block block = CDNA_TRY(std::move(fetched));
      const std::uint64_t begin = std::max(offset, block.entry_begin);
      const std::uint64_t end = std::min(offset + out.size(), block.entry_begin + block.entry_count);
      std::memcpy(out.data() + (begin - offset), block.data.data() + (begin - block.entry_begin), end - begin);
    }
    return {};
  });
}

// ---- Reader ----

Result<Reader> Reader::open(const std::string& path, const OpenOptions& options) {
  return no_throw(
      [&]() -> Result<Reader> { return open(CDNA_TRY(open_source(path, options.io, *options.file_system)), options); });
}

Result<Reader> Reader::open(std::unique_ptr<Source> source, const OpenOptions& options) {
  return no_throw([&]() -> Result<Reader> { return Reader(CDNA_TRY(File::open(std::move(source), options))); });
}

const Digest& Reader::root() const { return file_->root(); }
std::uint64_t Reader::file_bytes() const { return file_->tail().file_length(); }
std::uint64_t Reader::footer_bytes() const { return file_->footer().size_bytes(); }
std::uint32_t Reader::alignment() const { return std::uint32_t{1} << file_->tail().align_log2(); }
std::uint64_t Reader::required_features() const { return file_->tail().required_features(); }
std::uint64_t Reader::optional_features() const { return file_->tail().optional_features(); }
Trust Reader::trust() const { return file_->zero_copy() ? Trust::zero_copy : Trust::strict; }
const Source& Reader::source() const { return file_->source(); }

ReadStatistics Reader::statistics() const {
  const File::Counters& counters = file_->counters();
  ReadStatistics statistics;
  statistics.bytes_read = counters.bytes_read;
  statistics.bytes_hashed = counters.bytes_hashed;
  statistics.bytes_decoded = counters.bytes_decoded;
  statistics.blocks_verified = counters.blocks_verified;
  statistics.blocks_reused = counters.blocks_reused;
  statistics.blocks_decoded = counters.blocks_decoded;
  statistics.read_ns = counters.read_ns;
  statistics.verify_ns = counters.verify_ns;
  statistics.decode_ns = counters.decode_ns;
  return statistics;
}

std::uint32_t Reader::item_count() const { return file_->footer().item_count(); }
Item Reader::item(std::uint32_t number) const { return {*file_, number}; }
std::uint32_t Reader::tensor_count() const { return file_->footer().named_tensor_count(); }
Item Reader::tensor_item(std::uint32_t index) const { return {*file_, file_->footer().order()[index]}; }

Tensor Reader::resolve(const Item& item) const {
  const bool alias = item.kind() == ItemKind::alias;
  return {*file_, alias ? static_cast<std::uint32_t>(item.shape()[0]) : item.number()};
}

std::optional<Tensor> Reader::find(std::string_view name) const {
  const std::uint32_t number = file_->footer().find(true, name);
  if (number == item_count()) return std::nullopt;
  return resolve(item(number));
}

std::optional<Asset> Reader::find_asset(std::string_view name) const {
  const std::uint32_t number = file_->footer().find(false, name);
  if (number == item_count() || item(number).kind() != ItemKind::asset) return std::nullopt;
  return Asset(*file_, number);
}

Result<Metadata> Reader::metadata() const {
  return no_throw([&]() -> Result<Metadata> {
    const std::uint32_t last = item_count() - 1;  // I12: it is the last item.
    if (item_count() == 0 || item(last).kind() != ItemKind::metadata) return Metadata{};
    const Asset content(*file_, last);
    CDNA_CHECK(content.size_bytes() <= kMetadataBytesMax, Code::limit, "M1", "the metadata is over 64 MiB");
    CDNA_TRY(file_->touch(last));  // Before a buffer of the claimed size is made.
    std::vector<std::byte> bytes(content.size_bytes());
    CDNA_TRY(content.read(0, bytes));
    auto metadata = parse_metadata(bytes);
    if (!metadata) return file_->placed(std::move(metadata).error(), last);
    return metadata;
  });
}

}  // namespace cdna
