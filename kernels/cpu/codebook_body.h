// The loops of codebook.h in GNU vector types, which every instruction set gets its own code from. Included by a file
// that defines, in an unnamed namespace, how to find and look up entries:
//   template <uint32_t kBits> struct Entries { explicit Entries(const cdna_codebook&);
//     void nearest(const F32 (&v)[2], I32 (&codes)[2]) const;   // Codes may carry bits above kBits.
//     void values(const I32 (&codes)[2], F32 (&out)[2]) const;
//     void decode(const uint8_t* codes, F32 (&out)[2]) const; };
#include "kernels/cpu/codebook_vectors.h"

namespace {

// Runs body(i, lanes) over `count` elements, 32 at a time. Whole steps read and write the caller's memory; the rest
// goes through the body's own copies (see partial loads below).
constexpr size_t kStep = 32;

CDNA_INLINE F32 select_below(F32 x, size_t lanes) {  // Zero from lane `lanes` on.
  const I32 keep = kLaneNumbers < static_cast<int32_t>(lanes);
  return (F32)((I32)x & keep);
}

CDNA_INLINE size_t lanes_left(size_t count, size_t done) { return count - done < 16 ? count - done : 16; }

// `count` elements of 16 bits, 16 at a time.
template <class Widen>
CDNA_INLINE void widen(const void* bits, size_t count, float* out, const Widen& widen_16) {
  const uint8_t* from = static_cast<const uint8_t*>(bits);
  uint16_t rest[16] = {};
  for (size_t i = 0; i < count; i += 16) {
    const size_t lanes = lanes_left(count, i);
    if (lanes < 16) copy(rest, from + 2 * i, 2 * lanes);
    store_first(out + i, widen_16(lanes < 16 ? load<U16>(rest) : load<U16>(from + 2 * i)), lanes);
  }
}

void widen_bf16(const void* bits, size_t count, float* out) {
  widen(
      bits, count, out,
      [](U16 from) __attribute__((always_inline)) { return (F32)(__builtin_convertvector(from, U32) << 16); });
}

void widen_f16(const void* bits, size_t count, float* out) {
  widen(
      bits, count, out, [](U16 from) __attribute__((always_inline)) { return widen_halves(from); });
}

uint32_t max_magnitude(const float* x, size_t count) {
  U32 most = {};
  size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const U32 magnitude = load<U32>(x + i) & 0x7FFFFFFFU;
    most = magnitude > most ? magnitude : most;
  }
  uint32_t all = 0;
  for (int lane = 0; lane < 16; ++lane) all = most[lane] > all ? most[lane] : all;
  for (; i < count; ++i) {
    const uint32_t magnitude = bits_of_float(x[i]) & 0x7FFFFFFFU;
    all = magnitude > all ? magnitude : all;
  }
  return all;
}

void add_squares(const float* x, size_t count, double* lanes) {
  F64 sum = load<F64>(lanes);
  size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const F64 wide = __builtin_convertvector(load<F32x8>(x + i), F64);
    sum += wide * wide;
  }
  store(lanes, sum);
  for (size_t lane = 0; i < count; ++i, ++lane) lanes[lane] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
}

void divide(const float* x, size_t count, float divisor, float* out) {
  size_t i = 0;
  for (; i + 16 <= count; i += 16) store(out + i, load<F32>(x + i) / divisor);
  for (; i < count; ++i) out[i] = x[i] / divisor;
}

void multiply(const float* u, size_t count, float factor, float* out) {
  size_t i = 0;
  for (; i + 16 <= count; i += 16) store(out + i, load<F32>(u + i) * factor);
  for (; i < count; ++i) out[i] = u[i] * factor;
}

constexpr uint32_t kKeyShift = 12;                  // 23 - 11: what a bin drops of the fraction.
constexpr uint32_t kKeyFloor = (127U - 12U) << 11;  // Of 2^-12.
constexpr uint32_t kKeyLast = CDNA_HISTOGRAM_MAGNITUDES - 1;

CDNA_INLINE U32 bins_of(U32 bits) {
  const U32 key = (bits & 0x7FFFFFFFU) >> kKeyShift;
  const U32 above = key < kKeyFloor ? U32{} : key - kKeyFloor;
  const U32 magnitude = above > kKeyLast ? U32{} + kKeyLast : above;
  const U32 negative = (U32)((I32)bits >> 31);  // All ones, or zero: ~m + n is n - 1 - m.
  return (magnitude ^ negative) + static_cast<uint32_t>(CDNA_HISTOGRAM_MAGNITUDES);
}

void count_magnitudes(const float* v, size_t count, uint32_t* counts) {
  uint32_t bins[16];
  uint32_t rest[16] = {};
  for (size_t i = 0; i < count; i += 16) {
    const size_t lanes = lanes_left(count, i);
    if (lanes < 16) copy(rest, v + i, lanes * sizeof(float));
    store(bins, bins_of(lanes < 16 ? load<U32>(rest) : load<U32>(v + i)));
    if (lanes == 16) {
      for (int lane = 0; lane < 16; ++lane) ++counts[bins[lane]];
    } else {
      for (size_t lane = 0; lane < lanes; ++lane) ++counts[bins[lane]];
    }
  }
}

size_t find_large(const float* v, size_t count, float bound, uint32_t* places) {
  const uint32_t least = bits_of_float(bound);
  size_t found = 0;
  size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const I32 large = (load<U32>(v + i) & 0x7FFFFFFFU) >= least;
    if (!any(large)) continue;
    for (uint32_t lane = 0; lane < 16; ++lane) {
      if (large[lane] != 0) places[found++] = static_cast<uint32_t>(i) + lane;
    }
  }
  for (; i < count; ++i) {
    if ((bits_of_float(v[i]) & 0x7FFFFFFFU) >= least) places[found++] = static_cast<uint32_t>(i);
  }
  return found;
}

// Calls body(Entries<b>) with the bits of the codebook as a constant.
template <class Body>
CDNA_INLINE auto with_entries(const cdna_codebook& codebook, const Body& body) {
  switch (codebook.bits) {
    case 1:
      return body(Entries<1>(codebook));
    case 2:
      return body(Entries<2>(codebook));
    case 3:
      return body(Entries<3>(codebook));
    case 4:
      return body(Entries<4>(codebook));
    case 5:
      return body(Entries<5>(codebook));
    case 6:
      return body(Entries<6>(codebook));
    case 7:
      return body(Entries<7>(codebook));
    default:
      return body(Entries<8>(codebook));
  }
}

void nearest(const cdna_codebook* codebook, const float* v, size_t count, uint8_t* codes) {
  with_entries(
      *codebook, [&](const auto& entries) __attribute__((always_inline)) {
        float rest[kStep] = {};
        for (size_t i = 0; i < count; i += kStep) {
          const size_t left = count - i;
          const float* from = v + i;
          if (left < kStep) {
            copy(rest, from, left * sizeof(float));
            from = rest;
          }
          const F32 pair[2] = {load<F32>(from), load<F32>(from + 16)};
          I32 numbers[2];
          entries.nearest(pair, numbers);
          const U8 low[2] = {__builtin_convertvector(numbers[0], U8) & entries.kMask,
                             __builtin_convertvector(numbers[1], U8) & entries.kMask};
          copy(codes + i, low, left < kStep ? left : kStep);
        }
        return 0;
      });
}

// ((0+8) + (4+12)) + ... : halves, quarters, eighths.
CDNA_INLINE float sum_of(F32 lanes) {
  float sums[16];
  store(sums, lanes);
  const F32x8 eight = load<F32x8>(sums) + load<F32x8>(sums + 8);
  store(sums, eight);
  const F32x4 four = load<F32x4>(sums) + load<F32x4>(sums + 4);
  return (four[0] + four[2]) + (four[1] + four[3]);
}

template <class Codebook>
CDNA_INLINE float group_error(const Codebook& entries, const float* u, size_t count, float scale, float inverse) {
  F32 sum = {};
  for (size_t i = 0; i < count; i += kStep) {
    const F32 value[2] = {load<F32>(u + i), load<F32>(u + i + 16)};
    const F32 scaled[2] = {value[0] * inverse, value[1] * inverse};
    I32 codes[2];
    F32 decoded[2];
    entries.nearest(scaled, codes);
    entries.values(codes, decoded);
    F32 error[2] = {value[0] - decoded[0] * scale, value[1] - decoded[1] * scale};
    if (count - i < kStep) {
      error[0] = select_below(error[0], lanes_left(count, i));
      error[1] = count - i <= 16 ? F32{} : select_below(error[1], count - i - 16);
    }
    sum += error[0] * error[0];
    sum += error[1] * error[1];
  }
  return sum_of(sum);
}

uint32_t search_scale(const cdna_codebook* codebook, const cdna_scale_table* table, const float* u, size_t count,
                      uint32_t start) {
  float padded[128] = {};
  if (count % kStep != 0) {
    copy(padded, u, count * sizeof(float));
    u = padded;
  }
  const uint32_t sign = table->negative != 0 && start > table->negative ? table->negative : 0;
  const uint32_t middle = start - sign;
  constexpr uint32_t kReach = CDNA_SCALE_CANDIDATES / 2;
  const uint32_t begin = middle < table->first + kReach ? table->first : middle - kReach;
  const uint32_t end = middle + kReach > table->last ? table->last : middle + kReach;
  return with_entries(
      *codebook, [&](const auto& entries) __attribute__((always_inline)) {
        uint32_t best = begin + sign;
        float least = 0;
        for (uint32_t number = begin + sign; number <= end + sign; ++number) {
          const float error = group_error(entries, u, count, table->values[number], table->inverses[number]);
          if (number != begin + sign && !(error < least)) continue;
          best = number;
          least = error;
        }
        return best;
      });
}

void decode(const cdna_codebook* codebook, const uint8_t* codes, size_t count, float scale, float* out) {
  with_entries(
      *codebook, [&](const auto& entries) __attribute__((always_inline)) {
        uint8_t rest[kStep] = {};
        for (size_t i = 0; i < count; i += kStep) {
          const size_t left = count - i;
          const uint8_t* from = codes + i;
          if (left < kStep) {
            copy(rest, from, left);
            from = rest;
          }
          F32 values[2];
          entries.decode(from, values);
          if (left >= kStep) {
            store(out + i, values[0] * scale);
            store(out + i + 16, values[1] * scale);
          } else {
            const F32 scaled[2] = {values[0] * scale, values[1] * scale};
            copy(out + i, scaled, left * sizeof(float));
          }
        }
        return 0;
      });
}

CDNA_INLINE void add_error(cdna_error_sums& sums, size_t lane, float value, float decoded) {
  const double w = static_cast<double>(value);
  const double w2 = w * w;
  const double e = w - static_cast<double>(decoded);
  const double magnitude = e < 0 ? -e : e;
  sums.w[lane] += w;
  sums.w2[lane] += w2;
  sums.w3[lane] += w2 * w;
  sums.w4[lane] += w2 * w2;
  sums.error2[lane] += e * e;
  if (magnitude > sums.error_max[lane]) sums.error_max[lane] = magnitude;
}

void add_errors(const float* x, const float* decoded, size_t count, uint64_t first, cdna_error_sums* sums) {
  size_t i = 0;
  for (; i < count && (first + i) % 8 != 0; ++i) add_error(*sums, (first + i) % 8, x[i], decoded[i]);
  F64 s1 = load<F64>(sums->w);
  F64 s2 = load<F64>(sums->w2);
  F64 s3 = load<F64>(sums->w3);
  F64 s4 = load<F64>(sums->w4);
  F64 squares = load<F64>(sums->error2);
  F64 most = load<F64>(sums->error_max);
  for (; i + 8 <= count; i += 8) {
    const F64 w = __builtin_convertvector(load<F32x8>(x + i), F64);
    const F64 w2 = w * w;
    const F64 e = w - __builtin_convertvector(load<F32x8>(decoded + i), F64);
    const F64 magnitude = (F64)((I64)e & 0x7FFFFFFFFFFFFFFFLL);
    s1 += w;
    s2 += w2;
    s3 += w2 * w;
    s4 += w2 * w2;
    squares += e * e;
    most = magnitude > most ? magnitude : most;
  }
  store(sums->w, s1);
  store(sums->w2, s2);
  store(sums->w3, s3);
  store(sums->w4, s4);
  store(sums->error2, squares);
  store(sums->error_max, most);
  for (size_t lane = 0; i < count; ++i, ++lane) add_error(*sums, lane, x[i], decoded[i]);
}

constexpr cdna_codebook_kernels kKernels = {widen_bf16, widen_f16, max_magnitude, add_squares, divide, count_magnitudes,
                                            find_large, nearest,   search_scale,  multiply,    decode, add_errors};

}  // namespace
