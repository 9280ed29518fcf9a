// Where the bits of a lane's codes lie in its words, as a table: what kernels/cuda/layout.h says, one bit at a time.
#pragma once

#include <array>

namespace cdna::test {

constexpr std::array<unsigned, 4> kDeviceBits = {4, 5, 6, 8};

struct BitPlace {
  unsigned word;
  unsigned bit;
};

// Bit `bit` of code j of a step of a half with `bits` bits per code.
inline BitPlace bit_of(unsigned bits, unsigned step, unsigned j, unsigned bit) {
  // Spare bits, counted in a byte from its low end: {word, bit} of bits 0, 1, 2 ... of the code.
  constexpr std::array<std::array<BitPlace, 5>, 3> kFive = {{
      {{{0, 5}, {0, 6}, {0, 7}, {1, 5}, {1, 6}}},  // Step 5.
      {{{2, 5}, {2, 6}, {2, 7}, {3, 5}, {3, 6}}},  // Step 6.
      {{{4, 5}, {4, 6}, {4, 7}, {1, 7}, {3, 7}}},  // Step 7.
  }};
  constexpr std::array<std::array<BitPlace, 6>, 2> kSix = {{
      {{{0, 6}, {0, 7}, {1, 6}, {1, 7}, {2, 6}, {2, 7}}},  // Step 6.
      {{{3, 6}, {3, 7}, {4, 6}, {4, 7}, {5, 6}, {5, 7}}},  // Step 7.
  }};
  if (bits == 4) return {step / 2, 16 * (step % 2) + 4 * j + bit};
  if (step < bits) return {step, 8 * j + bit};
  const BitPlace spare = bits == 5 ? kFive[step - 5][bit] : kSix[step - 6][bit];
  return {spare.word, 8 * j + spare.bit};
}

}  // namespace cdna::test
