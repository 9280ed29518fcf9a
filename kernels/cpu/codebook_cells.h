// Entries of a codebook by cells: one look-up gives the only midpoint that is left to compare with. For CPUs whose
// registers do not hold the tables. Included by a file that defines gather_floats and gather_codes; includes the loops.
#include "kernels/cpu/codebook_vectors.h"

namespace {

template <uint32_t kBits>
struct Entries {
  static constexpr uint8_t kMask = static_cast<uint8_t>((1U << kBits) - 1);
  explicit Entries(const cdna_codebook& from) : codebook(from), last_cell(static_cast<float>(from.cell_count) - 1) {}

  CDNA_INLINE I32 nearest_by_cell(F32 v) const {
    F32 place = (v - codebook.cells_begin) * codebook.cells_per_unit;
    place = place < 0.0F ? F32{} : place;
    place = place > last_cell ? F32{} + last_cell : place;
    const I32 cell = __builtin_convertvector(place, I32);
    const I32 above = v > gather_floats(codebook.cell_midpoint, cell);  // -1 where it is.
    return gather_codes(codebook.cell_first_code, cell) - above;
  }

  // Halving by comparisons, for codebooks with entries of very different distances.
  CDNA_INLINE I32 nearest_by_tree(F32 v) const {
    I32 node = I32{} + 1;
    for (uint32_t level = 0; level < kBits; ++level) node = node + node - (v > gather_floats(codebook.tree, node));
    return node;
  }

  CDNA_INLINE void nearest(const F32 (&v)[kVectors], I32 (&codes)[kVectors]) const {
    for (int i = 0; i < kVectors; ++i)
      codes[i] = codebook.cell_count > 0 ? nearest_by_cell(v[i]) : nearest_by_tree(v[i]);
  }

  CDNA_INLINE void values(const I32 (&codes)[kVectors], F32 (&out)[kVectors]) const {
    for (int i = 0; i < kVectors; ++i) out[i] = gather_floats(codebook.values, codes[i] & static_cast<int32_t>(kMask));
  }

  CDNA_INLINE void decode(const uint8_t* codes, F32 (&out)[kVectors]) const {
    for (int i = 0; i < kVectors; ++i)
      out[i] = gather_floats(codebook.values, __builtin_convertvector(load<U8>(codes + kLanes * i), I32));
  }

  const cdna_codebook& codebook;
  float last_cell;
};

}  // namespace

#include "kernels/cpu/codebook_body.h"
