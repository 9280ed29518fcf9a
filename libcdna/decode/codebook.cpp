// Codes to floats, and floats to what the caller asked for.
#include "libcdna/decode/codebook.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>

#include "libcdna/decode/lookup.hpp"
#include "libcdna/format/encoding_rules.hpp"
#include "libcdna/format/float_bits.hpp"
#include "libcdna/format/small_floats.hpp"
#include "libcdna/matmul/kernels.hpp"
#include "libcdna/plane_reader.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

template <class T>
T load_at(const std::byte* from, std::uint64_t index) {
  T value;
  std::memcpy(&value, from + index * sizeof(T), sizeof(T));
  return value;
}

template <class T>
void store(std::byte* to, T value) {
  std::memcpy(to, &value, sizeof value);
}

float float_at(DType dtype, const std::byte* from, std::uint64_t index) {
  switch (dtype) {
    case DType::f16:
      return f32_of_f16(load_at<std::uint16_t>(from, index));
    case DType::bf16:
      return f32_of_bf16(load_at<std::uint16_t>(from, index));
    case DType::f64:
      return f32_of_f64(load_at<double>(from, index));
    default:
      return load_at<float>(from, index);
  }
}

// Arithmetic that yields NaN yields one NaN on all machines.
float canonical(float result) { return std::isnan(result) ? std::bit_cast<float>(kProductNan) : result; }

float product(float a, float b) { return canonical(a * b); }

std::uint32_t code_at(const std::byte* codes, std::size_t size, std::uint32_t bits, std::uint64_t index) {
  const std::uint64_t bit = index * bits;
  std::uint32_t window = 0;  // Up to 16 bits at any of 8 positions: three bytes.
  for (std::uint64_t i = 0; i < 3 && bit / 8 + i < size; ++i)
    window |= std::to_integer<std::uint32_t>(codes[bit / 8 + i]) << (8 * i);
  return window >> (bit % 8) & ((1U << bits) - 1);
}

void widen(DType dtype, std::span<const std::byte> from, float* out) {
  if (dtype == DType::f32) {
    std::memcpy(out, from.data(), from.size());
    return;
  }
  const std::uint64_t count = from.size() / (bits_of(dtype) / 8);
  for (std::uint64_t i = 0; i < count; ++i) out[i] = float_at(dtype, from.data(), i);
}

// take(bytes) for all blocks of a plane of scope 0, in order.
template <class Take>
Result<void> load_blocks(const File& file, std::uint32_t item, const wire::Plane& plane, const Take& take) {
  const auto number = static_cast<std::uint32_t>(&plane - file.footer().item(item).planes.data());
  PlaneReader reader = CDNA_TRY(PlaneReader::create(file, item, number, plane.block_count()));
  for (std::uint64_t block = 0; block < plane.block_count(); ++block) take(CDNA_TRY(reader.fetch(block)));
  return {};
}

// E2 and E7 bound what a plane of scope 0 has, and its blocks have been found in the index.
Result<std::vector<float>> load_table(const File& file, std::uint32_t item, const wire::Plane& plane) {
  CDNA_TRY(file.touch(item));
  std::vector<float> table(plane.row_entries());
  std::uint64_t next = 0;
  CDNA_TRY(load_blocks(file, item, plane, [&](std::span<const std::byte> bytes) {
    widen(static_cast<DType>(plane.dtype()), bytes, table.data() + next);
    next += bytes.size() * 8 / plane.bits();
  }));
  return table;
}

// An F32 plane (E2).
Result<void> load_right(const File& file, std::uint32_t item, const wire::Plane& plane, FinishTables& tables) {
  CDNA_TRY(file.touch(item));
  const std::uint64_t cols = plane.row_entries() / tables.factors.size();
  tables.right_stride = align_up(cols, 16);
  tables.right = AlignedBuffer<float>(tables.factors.size() * tables.right_stride);
  std::uint64_t next = 0;
  return load_blocks(file, item, plane, [&](std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const std::uint64_t column = next % cols;
      const std::uint64_t count = std::min(cols - column, bytes.size() / sizeof(float));
      std::memcpy(&tables.right[next / cols * tables.right_stride + column], bytes.data(), count * sizeof(float));
      bytes = bytes.subspan(count * sizeof(float));
      next += count;
    }
  });
}

}  // namespace

Result<std::vector<float>> load_codebook(const File& file, std::uint32_t item) {
  const ItemView view = file.footer().item(item);
  const wire::Plane* const plane = find_plane(view, kCodebook);
  std::vector<float> codebook = CDNA_TRY(load_table(file, item, *plane));
  const bool ascends = vector_of(view) == 1;
  for (std::size_t i = 0; i < codebook.size(); ++i) {
    if (!std::isnan(codebook[i]) && (!ascends || i == 0 || codebook[i - 1] <= codebook[i])) continue;
    Error error = fail(Code::malformed, "E3", "codebook entry " + std::to_string(i) + " is NaN or below the one before",
                       plane->offset());
    error.plane = static_cast<std::int32_t>(plane - view.planes.data());
    return file.placed(std::move(error), item);
  }
  return codebook;
}

Result<CodebookTables> load_codebook_tables(const File& file, std::uint32_t item) {
  const ItemView view = file.footer().item(item);
  CodebookTables tables;
  tables.codebook = CDNA_TRY(load_codebook(file, item));
  if (const wire::Plane* const table = find_plane(view, kScaleTable)) {
    tables.scale_table = CDNA_TRY(load_table(file, item, *table));
    tables.scale_lookup = make_lookup(tables.scale_table);
  }
  if (vector_of(view) == 1 && tables.codebook.size() <= 256) tables.lookup = make_lookup(tables.codebook);
  return tables;
}

bool has_finish_tables(const ItemView& view) {
  return find_plane(view, kLowRankFactors) != nullptr || find_plane(view, kColumnScale) != nullptr;
}

Result<FinishTables> load_finish_tables(const File& file, std::uint32_t item) {
  const ItemView view = file.footer().item(item);
  FinishTables tables;
  if (const wire::Plane* const factors = find_plane(view, kLowRankFactors)) {
    tables.factors = CDNA_TRY(load_table(file, item, *factors));
    CDNA_TRY(load_right(file, item, *find_plane(view, kLowRankRight), tables));
  }
  if (const wire::Plane* const scales = find_plane(view, kColumnScale))
    tables.column_scales = CDNA_TRY(load_table(file, item, *scales));
  return tables;
}

RowDecoder RowDecoder::of(const ItemView& view, const CodebookTables& tables) {
  RowDecoder decoder;
  decoder.codebook = tables.codebook;
  decoder.scale_table = tables.scale_table;
  decoder.bits = view.planes[0].bits();
  decoder.has_row_scale = find_plane(view, kRowScale) != nullptr;
  if (const wire::Plane* const group = find_plane(view, kGroupScale)) {
    decoder.group = group->group();
    decoder.group_dtype = static_cast<DType>(group->dtype());
  }
  if (const wire::Plane* const offset = find_plane(view, kGroupOffset))
    decoder.offset_dtype = static_cast<DType>(offset->dtype());
  decoder.vector = vector_of(view);
  if (const wire::Plane* const factors = find_plane(view, kLowRankFactors)) decoder.rank = factors->row_entries();
  decoder.has_column_scales = find_plane(view, kColumnScale) != nullptr;
  return decoder;
}

RowDecoder RowDecoder::of(DType dtype) {
  RowDecoder decoder;
  decoder.codebook = small_float_values(dtype);
  decoder.bits = bits_of(dtype);
  return decoder;
}

float RowDecoder::scale_of(float row_scale, std::span<const std::byte> group_scales, std::uint64_t index) const {
  if (group == 0) return row_scale;
  const float scale = group_dtype == DType::u8 ? scale_table[std::to_integer<std::size_t>(group_scales[index])]
                                               : float_at(group_dtype, group_scales.data(), index);
  return has_row_scale ? product(scale, row_scale) : scale;
}

float RowDecoder::scale(float row_scale, std::span<const std::byte> group_scales, std::uint64_t index) const {
  return has_row_scale || group != 0 ? scale_of(row_scale, group_scales, index) : 1.0F;
}

float RowDecoder::entry(std::span<const std::byte> codes, std::uint64_t index) const {
  return codebook[bits == 8 ? std::to_integer<std::size_t>(codes[index])
                            : code_at(codes.data(), codes.size(), bits, index)];
}

float RowDecoder::value(std::span<const std::byte> codes, std::uint64_t index, float scale) const {
  return has_row_scale || group != 0 ? product(entry(codes, index), scale) : entry(codes, index);
}

float outlier_difference(float value, float entry, float scale) {
  const float used = entry * scale;
  if (std::isfinite(used)) return value - used;
  return static_cast<float>(double{value} - double{entry} * double{scale});
}

// Elements from `begin` on, which have one scale.
void RowDecoder::decode_run(std::span<const std::byte> codes, std::uint64_t begin, float factor,
                            std::span<float> out) const {
  if (vector == 1) {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = value(codes, begin + i, factor);
    return;
  }
  const bool scaled = has_row_scale || group != 0;
  for (std::size_t i = 0; i < out.size(); i += vector) {
    const std::size_t code = code_at(codes.data(), codes.size(), bits, (begin + i) / vector);
    for (std::size_t k = 0; k < vector; ++k) {
      const float entry = codebook[code * vector + k];
      out[i + k] = scaled ? product(entry, factor) : entry;
    }
  }
}

void RowDecoder::decode(std::span<const std::byte> codes, float row_scale, std::span<const std::byte> group_scales,
                        std::span<const std::byte> group_offsets, std::span<float> out) const {
  const std::size_t run = group == 0 ? out.size() : group;
  for (std::size_t begin = 0; begin < out.size(); begin += run) {
    const std::span<float> values = out.subspan(begin, std::min(run, out.size() - begin));
    decode_run(codes, begin, scale(row_scale, group_scales, begin / run), values);
    if (offset_dtype == DType::none) continue;
    const float offset = float_at(offset_dtype, group_offsets.data(), begin / run);
    for (float& value : values) value = canonical(value + offset);
  }
}

void RowDecoder::finish(std::span<const float> left, std::uint64_t column, std::span<float> values) const {
  if (rank != 0) add_low_rank(left, column, values);
  if (!has_column_scales) return;
  const std::span<const float> column_scales = finish_tables->column_scales;
  for (std::size_t j = 0; j < values.size(); ++j) values[j] = canonical(values[j] / column_scales[column + j]);
}

// The kernel's chain of fused operations is that of the format.
void RowDecoder::add_low_rank(std::span<const float> left, std::uint64_t column, std::span<float> values) const {
  constexpr std::size_t kColumns = 256;
  const FinishTables& tables = *finish_tables;
  const float* const right = tables.right.data() + column;
  std::array<float, kLowRankMax> row;
  for (std::size_t t = 0; t < rank; ++t) row[t] = left[t] * tables.factors[t];
  alignas(64) std::array<float, kColumns> sums;
  for (std::size_t begin = 0; begin < values.size(); begin += kColumns) {
    const std::size_t count = std::min(kColumns, values.size() - begin);
    sums.fill(0);
    f32_kernels(isa()).multiply(row.data(), rank, 1, right + begin, tables.right_stride, align_up(count, 16), rank,
                                sums.data(), kColumns);
    for (std::size_t j = 0; j < count; ++j) values[begin + j] = canonical(values[begin + j] + sums[j]);
  }
}

void convert_value(DType from, const std::byte* value, DType to, std::byte* out) {
  if (from == to) {
    std::memcpy(out, value, bits_of(to) / 8);
  } else {
    const float widened = float_at(from, value, 0);
    convert_values({&widened, 1}, to, out);
  }
}

void convert_values(std::span<const float> values, DType dtype, std::byte* out) {
  switch (dtype) {
    case DType::f16:
      for (const float value : values) store(out, f16_of_f32(value)), out += 2;
      return;
    case DType::bf16:
      for (const float value : values) store(out, bf16_of_f32(value)), out += 2;
      return;
    case DType::f64:
      for (const float value : values) store(out, static_cast<double>(value)), out += 8;
      return;
    default:
      std::memcpy(out, values.data(), values.size_bytes());
  }
}

}  // namespace cdna
