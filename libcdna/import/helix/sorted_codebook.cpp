// Checks indices against their codebook, sorts it, and packs what the indices become.
#include "libcdna/import/helix/sorted_codebook.hpp"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <numeric>
#include <string>

#include "libcdna/try.hpp"

namespace cdna {
namespace {

std::string place(std::uint64_t at, std::uint64_t per_row) {
  return "row " + std::to_string(at / per_row) + ", column " + std::to_string(at % per_row) + " of the indices";
}

// Which entries have an index. Checks that all indices are below their number.
template <class Index>
Result<std::vector<bool>> used_entries(std::span<const Index> indices, std::size_t entries, std::uint64_t per_row) {
  std::vector<bool> used(entries);
  for (std::size_t i = 0; i < indices.size(); ++i) {
    CDNA_CHECK(indices[i] < entries, Code::malformed, "",
               "index " + std::to_string(indices[i]) + " at " + place(i, per_row) + ": the codebook has " +
                   std::to_string(entries) + " entries");
    used[indices[i]] = true;
  }
  return used;
}

// Makes the entries finite, if no index is in the way.
template <class Index>
Result<void> check_finite(std::vector<float>& entries, std::uint32_t vector, std::span<const Index> indices,
                          const std::vector<bool>& used, std::uint64_t per_row) {
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (std::isfinite(entries[i])) continue;
    const std::size_t entry = i / vector;
    if (!used[entry]) {
      entries[i] = 0;
      continue;
    }
    const auto first = std::find(indices.begin(), indices.end(), entry);
    return fail(Code::malformed, "",
                "codebook entry " + std::to_string(entry) + " is " + (std::isnan(entries[i]) ? "NaN" : "infinite") +
                    ", and in use at " + place(static_cast<std::uint64_t>(first - indices.begin()), per_row));
  }
  return {};
}

// Places of the entries in ascending order.
std::vector<std::size_t> order_of(std::span<const float> entries, std::uint32_t vector) {
  std::vector<std::size_t> order(entries.size() / vector);
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (vector == 1) {
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return entries[a] < entries[b]; });
  }
  return order;
}

template <class Index>
void pack_row(std::span<const Index> indices, std::span<const std::uint32_t> code_of, std::uint32_t bits,
              std::byte* out) {
  std::uint64_t window = 0;
  std::uint32_t filled = 0;
  for (const Index index : indices) {
    window |= std::uint64_t{code_of[index]} << filled;
    for (filled += bits; filled >= 8; filled -= 8, window >>= 8) *out++ = static_cast<std::byte>(window & 0xFF);
  }
  if (filled > 0) *out = static_cast<std::byte>(window & 0xFF);
}

template <class Index>
Result<CodedMatrix> sort(std::span<const float> given, std::uint32_t vector, std::span<const Index> indices,
                         std::uint64_t rows) {
  assert(!given.empty() && given.size() % vector == 0 && given.size() / vector <= 65536);
  assert(rows == 0 ? indices.empty() : indices.size() % rows == 0);
  const std::size_t count = given.size() / vector;
  const std::uint64_t per_row = rows == 0 ? 0 : indices.size() / rows;
  std::vector<float> entries(given.begin(), given.end());
  const std::vector<bool> used = CDNA_TRY(used_entries(indices, count, per_row));
  CDNA_TRY(check_finite(entries, vector, indices, used, per_row));

  CodedMatrix matrix;
  matrix.vector = vector;
  matrix.bits = std::max(1U, static_cast<std::uint32_t>(std::bit_width(count - 1)));
  const std::vector<std::size_t> order = order_of(entries, vector);
  std::vector<std::uint32_t> code_of(count);
  for (std::size_t code = 0; code < std::size_t{1} << matrix.bits; ++code) {
    const std::size_t entry = order[std::min(code, count - 1)];
    const auto begin = entries.begin() + static_cast<std::ptrdiff_t>(entry * vector);
    matrix.codebook.insert(matrix.codebook.end(), begin, begin + vector);
    if (code < count) code_of[entry] = static_cast<std::uint32_t>(code);
  }
  const std::uint64_t row_bytes = (per_row * matrix.bits + 7) / 8;
  matrix.codes.resize(rows * row_bytes);
  for (std::uint64_t row = 0; row < rows; ++row) {
    pack_row(indices.subspan(row * per_row, per_row), std::span<const std::uint32_t>(code_of), matrix.bits,
             matrix.codes.data() + row * row_bytes);
  }
  return matrix;
}

}  // namespace

Result<CodedMatrix> sort_codebook(std::span<const float> entries, std::uint32_t vector,
                                  std::span<const std::uint8_t> indices, std::uint64_t rows) {
  return sort(entries, vector, indices, rows);
}

Result<CodedMatrix> sort_codebook(std::span<const float> entries, std::uint32_t vector,
                                  std::span<const std::uint16_t> indices, std::uint64_t rows) {
  return sort(entries, vector, indices, rows);
}

}  // namespace cdna
