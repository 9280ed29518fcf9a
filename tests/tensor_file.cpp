// Planes to blocks, by the writer's packets.
#include "tensor_file.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "libcdna/format/encoding_rules.hpp"
#include "libcdna/format/tail.hpp"
#include "libcdna/hash/sha256.hpp"

namespace cdna::test {
namespace {

constexpr std::uint8_t kAlignLog2 = 12;
constexpr std::uint64_t kAlignment = std::uint64_t{1} << kAlignLog2;
constexpr float kUnknownError = std::numeric_limits<float>::infinity();

// A part of the matrix that is one block of the first plane.
struct Piece {
  std::uint64_t row_begin;
  std::uint64_t row_end;
  std::uint64_t col_begin;
  std::uint64_t col_end;
};

std::vector<Piece> pieces_of(std::uint64_t rows, std::uint64_t cols, std::uint32_t rows_per_block) {
  std::vector<Piece> pieces;
  if (cols == 0) return pieces;
  for (std::uint64_t row = 0; row < rows && rows_per_block != 0; row += rows_per_block)
    pieces.push_back({row, std::min(rows, row + rows_per_block), 0, cols});
  for (std::uint64_t row = 0; row < rows && rows_per_block == 0; ++row) {
    for (std::uint64_t col = 0; col < cols; col += kCutEntries)
      pieces.push_back({row, row + 1, col, std::min(cols, col + kCutEntries)});
  }
  return pieces;
}

void must_do(const Result<void>& result) {
  if (!result) throw std::runtime_error(result.error().describe());
}

Bytes packed(const CodebookPlanes& planes, const Piece& piece) {
  const std::uint64_t row_bytes = ((piece.col_end - piece.col_begin) * planes.bits + 7) / 8;
  Bytes bytes((piece.row_end - piece.row_begin) * row_bytes);
  for (std::uint64_t row = piece.row_begin; row < piece.row_end; ++row) {
    std::byte* const to = bytes.data() + (row - piece.row_begin) * row_bytes;
    for (std::uint64_t col = piece.col_begin; col < piece.col_end; ++col) {
      const std::uint32_t code = planes.codes[row * planes.cols + col];
      for (std::uint32_t i = 0; i < planes.bits; ++i) {
        const std::uint64_t bit = (col - piece.col_begin) * planes.bits + i;
        to[bit / 8] |= static_cast<std::byte>((code >> i & 1U) << (bit % 8));
      }
    }
  }
  return bytes;
}

Bytes outlier_block(const CodebookPlanes& planes, const Piece& piece) {
  std::vector<double> values;
  std::vector<std::uint32_t> positions;
  const auto end = planes.outliers.lower_bound(piece.row_end * planes.cols);
  for (auto at = planes.outliers.lower_bound(piece.row_begin * planes.cols); at != end; ++at) {
    const std::uint64_t row = at->first / planes.cols;
    const std::uint64_t col = at->first % planes.cols;
    if (col < piece.col_begin || col >= piece.col_end) continue;
    values.push_back(at->second);
    positions.push_back(static_cast<std::uint32_t>((row - piece.row_begin) * (piece.col_end - piece.col_begin) +
                                                   (col - piece.col_begin)));
  }
  Bytes bytes = test::bytes_of(planes.outlier_dtype, values);
  const auto tail = std::as_bytes(std::span(positions));
  bytes.insert(bytes.end(), tail.begin(), tail.end());
  return bytes;
}

Bytes group_bytes(const CodebookPlanes& planes) {
  if (planes.group_dtype != DType::u8) return test::bytes_of(planes.group_dtype, planes.group_scales);
  Bytes bytes(planes.group_scales.size());
  std::transform(planes.group_scales.begin(), planes.group_scales.end(), bytes.begin(),
                 [](double number) { return static_cast<std::byte>(static_cast<std::uint8_t>(number)); });
  return bytes;
}

// Writes the blocks of one tensor.
struct BlockStream {
  PacketWriter& packet;
  BlockEncoder encoder;

  void append(std::size_t plane, const BlockCoding& coding, Bytes decoded) {
    const float error = plane == 0 ? kUnknownError : 0;
    must_do(packet.append(plane, prepare_block(encoder, coding, std::move(decoded), error)));
  }
  void append_rows(std::size_t plane, const Bytes& bytes, std::uint64_t block_bytes) {
    for (std::uint64_t begin = 0; begin < bytes.size(); begin += block_bytes) {
      const std::uint64_t end = std::min<std::uint64_t>(bytes.size(), begin + block_bytes);
      append(
          plane, Codec::raw,
          Bytes(bytes.begin() + static_cast<std::ptrdiff_t>(begin), bytes.begin() + static_cast<std::ptrdiff_t>(end)));
    }
  }
};

}  // namespace

CodebookPlanes random_planes(const CodebookShape& shape, std::uint64_t seed) {
  Noise noise(seed);
  CodebookPlanes planes;
  planes.rows = shape.rows;
  planes.cols = shape.cols;
  planes.bits = shape.bits;
  planes.codebook_dtype = shape.codebook_dtype;
  const std::uint64_t entries = std::uint64_t{1} << shape.bits;
  for (std::uint64_t i = 0; i < entries; ++i) planes.codebook.push_back(noise.gaussian());
  std::sort(planes.codebook.begin(), planes.codebook.end());
  const auto scale = [&noise] { return (noise.below(2) == 0 ? -1.0 : 1.0) * (0.5 + 1.5 * noise.unit()); };
  for (std::uint64_t i = 0; i < shape.rows * shape.cols; ++i)
    planes.codes.push_back(static_cast<std::uint16_t>(noise.below(std::min<std::uint64_t>(entries, shape.codes_used))));
  for (std::uint64_t row = 0; shape.row_scales && row < shape.rows; ++row)
    planes.row_scales.push_back(static_cast<float>(scale()));
  planes.group = shape.group;
  planes.group_dtype = shape.group_dtype;
  const std::uint64_t groups = shape.group == 0 ? 0 : shape.rows * ((shape.cols + shape.group - 1) / shape.group);
  const bool numbered = shape.group != 0 && shape.group_dtype == DType::u8;
  for (std::uint64_t i = 0; i < groups; ++i)
    planes.group_scales.push_back(numbered ? static_cast<double>(noise.below(256)) : scale());
  for (int i = 0; numbered && i < 256; ++i) planes.scale_table.push_back(static_cast<float>(scale()));
  planes.outlier_dtype = shape.outlier_dtype;
  const std::uint64_t outliers =
      shape.outlier_dtype == DType::none ? 0 : shape.rows * shape.cols / shape.elements_per_outlier;
  for (std::uint64_t i = 0; i < outliers; ++i)
    planes.outliers[noise.below(shape.rows * shape.cols)] = 8 * noise.gaussian();
  return planes;
}

TensorFile::TensorFile() : sink_(memory_sink(bytes_)), walk_(kAlignLog2) {
  must_do(sink_.write(cdna::bytes_of(make_head(kAlignLog2))));
}

ItemDraft TensorFile::draft_of(const std::string& name, const char* encoding, DType dtype, std::uint64_t rows,
                               std::uint64_t cols) const {
  ItemDraft draft;
  draft.dims = {rows, cols};
  draft.name = name;
  draft.type = encoding;
  draft.item.mutate_kind(kTensor);
  draft.item.mutate_role(static_cast<std::uint16_t>(Role::matrix));
  draft.item.mutate_dtype(static_cast<std::uint8_t>(dtype));
  draft.item.mutate_rank(2);
  draft.item.mutate_row_dims(1);
  draft.item.mutate_name_length(static_cast<std::uint16_t>(draft.name.size()));
  draft.item.mutate_type_length(static_cast<std::uint16_t>(draft.type.size()));
  return draft;
}

void TensorFile::add(const std::string& name, const CodebookPlanes& planes, const BlockLayout& layout) {
  const std::uint32_t side_rows = std::max(1U, layout.rows_per_block) * layout.side_factor;
  const std::uint64_t groups = planes.group == 0 ? 0 : (planes.cols + planes.group - 1) / planes.group;
  std::vector<wire::Plane> shapes;
  const auto add_plane = [&shapes](const PlaneShape& shape) {
    shapes.push_back(make_plane(shape));
    return shapes.size() - 1;
  };
  const std::uint64_t entries = planes.codebook.size();
  add_plane({kCodes, DType::none, planes.bits, kRows, planes.cols, layout.rows_per_block, layout.coding.codec});
  const std::size_t codebook =
      add_plane({kCodebook, planes.codebook_dtype, bits_of(planes.codebook_dtype), kWhole, entries, 1, Codec::raw});
  std::size_t row_scale = 0;
  if (!planes.row_scales.empty()) row_scale = add_plane({kRowScale, DType::f32, 32, kRows, 1, side_rows, Codec::raw});
  std::size_t group_scale = 0;
  std::size_t scale_table = 0;
  if (groups != 0) {
    const std::uint32_t bits = bits_of(planes.group_dtype);
    group_scale = add_plane({kGroupScale, planes.group_dtype, bits, kRows, groups, side_rows, Codec::raw});
    shapes.back().mutate_group(static_cast<std::uint16_t>(planes.group));
    if (planes.group_dtype == DType::u8)
      scale_table = add_plane({kScaleTable, DType::f32, 32, kWhole, 256, 1, Codec::raw});
  }
  std::size_t outliers = 0;
  if (planes.outlier_dtype != DType::none)
    outliers = add_plane({kOutliers, planes.outlier_dtype, 8, kPerBlock, 0, 0, layout.coding.codec});

  ItemDraft draft = draft_of(name, kCodebookEncoding.data(), planes.dtype, planes.rows, planes.cols);
  draft.item.mutate_sum_squares(std::numeric_limits<double>::infinity());
  draft.item.mutate_sum_squared_error(std::numeric_limits<double>::infinity());
  if (planes.nonfinite) draft.item.mutate_optional_features(kOptionalNonfinite);
  PacketWriter packet(sink_, kAlignment, std::move(draft), shapes);
  BlockStream stream{packet, {}};
  for (const Piece& piece : pieces_of(planes.rows, planes.cols, layout.rows_per_block)) {
    stream.append(0, layout.coding, packed(planes, piece));
    if (outliers != 0) stream.append(outliers, layout.coding, outlier_block(planes, piece));
  }
  stream.append(codebook, Codec::raw, test::bytes_of(planes.codebook_dtype, planes.codebook));
  if (row_scale != 0) stream.append_rows(row_scale, bytes_of_values(planes.row_scales), side_rows * 4);
  if (group_scale != 0)
    stream.append_rows(group_scale, group_bytes(planes), side_rows * groups * bits_of(planes.group_dtype) / 8);
  if (scale_table != 0) stream.append(scale_table, Codec::raw, bytes_of_values(planes.scale_table));
  must_do(packet.finish(walk_, footer_));
}

void TensorFile::add_exact(const std::string& name, DType dtype, std::uint64_t rows, std::uint64_t cols,
                           const Bytes& elements, const BlockLayout& layout) {
  const std::uint32_t bits = bits_of(dtype);
  const std::uint64_t row_bytes = (cols * bits + 7) / 8;
  PacketWriter packet(sink_, kAlignment, draft_of(name, kExactEncoding.data(), dtype, rows, cols),
                      {make_plane({kData, dtype, bits, kRows, cols, layout.rows_per_block, layout.coding.codec})});
  BlockEncoder encoder;
  for (const Piece& piece : pieces_of(rows, cols, layout.rows_per_block)) {
    const std::byte* const begin = elements.data() + piece.row_begin * row_bytes + piece.col_begin * bits / 8;
    const std::uint64_t size = layout.rows_per_block == 0 ? ((piece.col_end - piece.col_begin) * bits + 7) / 8
                                                          : (piece.row_end - piece.row_begin) * row_bytes;
    must_do(packet.append(0, prepare_block(encoder, layout.coding, Bytes(begin, begin + size))));
  }
  must_do(packet.finish(walk_, footer_));
}

Bytes TensorFile::finish() {
  TailFields fields;
  fields.required_features = walk_.required_features();
  fields.optional_features = walk_.optional_features();
  fields.footer_offset = sink_.position();
  const Bytes footer = footer_.build();
  fields.footer_bytes = footer.size();
  fields.item_count = footer_.item_count();
  fields.footer_digest = sha256(footer);
  fields.align_log2 = kAlignLog2;
  must_do(sink_.write(footer));
  must_do(sink_.pad_to(align_up(sink_.position(), kPacketAlignment)));
  must_do(sink_.write(cdna::bytes_of(make_tail(fields))));
  return std::move(bytes_);
}

Bytes file_of(const CodebookPlanes& planes, const BlockLayout& layout) {
  TensorFile file;
  file.add("w", planes, layout);
  return file.finish();
}

Bytes file_of_exact(DType dtype, std::uint64_t rows, std::uint64_t cols, const Bytes& elements,
                    const BlockLayout& layout) {
  TensorFile file;
  file.add_exact("w", dtype, rows, cols, elements, layout);
  return file.finish();
}

}  // namespace cdna::test
