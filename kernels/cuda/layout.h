// Where the codes of a matrix lie on the device: tiles in the order in which the lanes of a warp multiply with them.
//
// W [rows, cols] is cut into tiles of 16 rows x 128 columns, both padded with code 0; tile (i, j) is the
// (i * column tiles + j)-th. A tile is eight A operands of mma.m16n8k16 side by side ("steps" of 16 columns; PTX ISA,
// "Matrix fragments for mma.m16n8k16"; each warp's part of a wgmma.m64nNk16 is the same). Of each, lane 4g + t holds
//
//     rows g and g + 8 (half 0 and 1),   columns 2t, 2t + 1, 2t + 8, 2t + 9 (j = 0 .. 3)
//
// so a lane owns 32 codes of each half, in b words, b being the bits per code on the device: 4, 5, 6 or 8 (1 to 3 bits
// are stored as 4, 7 as 8). How a step's four codes lie in the words is made for looking them up by bytes:
//
//   8 bits  step s is word s, byte j its code.
//   4 bits  step s is half of word s / 2: byte 2 (s % 2) + j / 2 holds codes j (low nibble) and j + 1.
//   5, 6    step s < b is word s: byte j holds code j in its low bits. What is left of the bytes, "spare" bits, holds
//           the steps from b on: of 6 bits, 2 spare bits in each of 6 words are steps 6 (words 0 .. 2, low bits first)
//           and 7 (words 3 .. 5); of 5 bits, 3 in each of 5: step 5 is the spare bits of word 0 and the low 2 of word 1,
//           step 6 those of word 2 and the low 2 of word 3, step 7 those of word 4, then the third bit of word 1 and of 3.
//
// A lane's words of both halves are interleaved in pairs (word_place) and lie in runs of 16 bytes, one such run of each
// lane after the other: a warp reads 512 bytes at once. Of 5 bits two words are left over: a run of 8 bytes.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__
#define CDNA_HD __host__ __device__ __forceinline__
#else
#define CDNA_HD inline
#endif

namespace cdna_cuda {

constexpr unsigned kLanes = 32;
constexpr unsigned kTileRows = 16;
constexpr unsigned kTileColumns = 128;
constexpr unsigned kSteps = 8;             // Of a tile: 16 columns each.
constexpr unsigned kStepColumns = 16;
constexpr unsigned kGroupColumns = 32;     // Group scales are for 32, 64 or 128 columns.

// Bits per code on the device for codes of `bits` bits in the file; 0: more than 8, not supported.
CDNA_HD constexpr unsigned device_bits(unsigned bits) {
  return bits < 1 || bits > 8 ? 0 : bits <= 4 ? 4 : bits <= 6 ? bits : 8;
}

CDNA_HD constexpr std::uint64_t tiles_of_rows(std::uint64_t rows) { return (rows + kTileRows - 1) / kTileRows; }
CDNA_HD constexpr std::uint64_t tiles_of_columns(std::uint64_t cols) { return (cols + kTileColumns - 1) / kTileColumns; }
CDNA_HD constexpr std::size_t tile_bytes(unsigned bits) { return std::size_t{256} * bits; }

// Where in a tile an element is: row < 16, column < 128.
struct FragmentPlace {
  unsigned lane;
  unsigned half;
  unsigned step;
  unsigned j;
};

CDNA_HD constexpr FragmentPlace fragment_place(unsigned row, unsigned column) {
  const unsigned k = column % kStepColumns;
  return {4 * (row % 8) + k % 8 / 2, row / 8, column / kStepColumns, k % 2 + 2 * (k / 8)};
}

CDNA_HD constexpr unsigned row_of(const FragmentPlace& place) { return place.lane / 4 + 8 * place.half; }
CDNA_HD constexpr unsigned column_of(const FragmentPlace& place) {
  return kStepColumns * place.step + 2 * (place.lane % 4) + place.j % 2 + 8 * (place.j / 2);
}

// The place of word `word` of a half among the 2b words of a lane.
CDNA_HD constexpr unsigned word_place(unsigned bits, unsigned half, unsigned word) {
  return word + 1 == bits && bits % 2 == 1 ? 2 * word + half : word / 2 * 4 + 2 * half + word % 2;
}

// The byte in a tile of a lane's word at `place`.
CDNA_HD constexpr std::size_t word_offset(unsigned bits, unsigned lane, unsigned place) {
  return place < 2 * bits / 4 * 4 ? std::size_t{512} * (place / 4) + 16 * lane + 4 * (place % 4)
                                  : std::size_t{512} * (place / 4) + 8 * lane + 4 * (place % 4);
}

// The 32 codes of a lane's half, codes[4 * step + j], as its b words. `Code` is any unsigned type.
template <class Code>
CDNA_HD void pack_words(unsigned bits, const Code* codes, std::uint32_t* words) {
  const auto step = [codes](unsigned s) {
    return std::uint32_t{codes[4 * s]} | std::uint32_t{codes[4 * s + 1]} << 8 | std::uint32_t{codes[4 * s + 2]} << 16 |
           std::uint32_t{codes[4 * s + 3]} << 24;
  };
  if (bits == 4) {
    for (unsigned w = 0; w < 4; ++w) {
      words[w] = 0;
      for (unsigned i = 0; i < 8; ++i) words[w] |= std::uint32_t{codes[8 * w + i]} << 4 * i;
    }
    return;
  }
  for (unsigned w = 0; w < bits; ++w) words[w] = step(w);
  if (bits == 6) {
    for (unsigned half = 0; half < 2; ++half) {
      for (unsigned i = 0; i < 3; ++i) words[3 * half + i] |= (step(6 + half) >> 2 * i & 0x03030303U) << 6;
    }
  }
  if (bits == 5) {
    words[0] |= (step(5) & 0x07070707U) << 5;
    words[1] |= (step(5) >> 3 & 0x03030303U) << 5 | (step(7) >> 3 & 0x01010101U) << 7;
    words[2] |= (step(6) & 0x07070707U) << 5;
    words[3] |= (step(6) >> 3 & 0x03030303U) << 5 | (step(7) >> 4 & 0x01010101U) << 7;
    words[4] |= (step(7) & 0x07070707U) << 5;
  }
}

}  // namespace cdna_cuda
