// The loops of codebook.h, in steps of 32 values. Included by a file that includes codebook_vectors.h and defines, in
// an unnamed namespace, how to find and look up entries (codes may carry bits above kBits):
//   template <uint32_t kBits> struct Entries { explicit Entries(const cdna_codebook&); static constexpr uint8_t kMask;
//     void nearest(const F32 (&v)[kVectors], I32 (&codes)[kVectors]) const;
//     void values(const I32 (&codes)[kVectors], F32 (&out)[kVectors]) const;
//     void decode(const uint8_t* codes, F32 (&out)[kVectors]) const; };
#include "kernels/cpu/codebook_vectors.h"

namespace {

// Whole vectors of a run, then what is left of it value by value, with the same results.
template <class Vector, class One>
CDNA_INLINE void for_lanes(size_t count, const Vector& vector, const One& one) {
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) vector(i);
  for (; i < count; ++i) one(i);
}

// A step's input: the caller's memory, or a copy padded with zeros where fewer than 32 elements are left.
template <class T>
CDNA_INLINE const T* padded(const T* from, size_t left, T (&rest)[kStep]) {
  if (left >= kStep) return from;
  copy(rest, from, left * sizeof(T));
  return rest;
}

CDNA_INLINE void load_step(const float* from, F32 (&v)[kVectors]) {
  for (int i = 0; i < kVectors; ++i) v[i] = load<F32>(from + i * kLanes);
}

template <class Widen>
CDNA_INLINE void widen(const void* bits, size_t count, float* out, const Widen& widen_lanes) {
  const uint8_t* from = static_cast<const uint8_t*>(bits);
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(out + i, widen_lanes(load<U16>(from + 2 * i)));
  if (i == count) return;
  uint16_t rest[kLanes] = {};
  copy(rest, from + 2 * i, 2 * (count - i));
  const F32 wide = widen_lanes(load<U16>(rest));
  copy(out + i, &wide, sizeof(float) * (count - i));
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
  I32 most[2] = {};  // As signed numbers: magnitudes have a clear upper bit.
  size_t i = 0;
  for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
    for (int j = 0; j < 2; ++j) {
      const I32 magnitude = load<I32>(x + i + j * kLanes) & 0x7FFFFFFF;
      most[j] = magnitude > most[j] ? magnitude : most[j];
    }
  }
  const I32 both = most[0] > most[1] ? most[0] : most[1];
  int32_t all = 0;
  for (int lane = 0; lane < kLanes; ++lane) all = both[lane] > all ? both[lane] : all;
  for (; i < count; ++i) {
    const auto magnitude = static_cast<int32_t>(bits_of_float(x[i]) & 0x7FFFFFFFU);
    all = magnitude > all ? magnitude : all;
  }
  return static_cast<uint32_t>(all);
}

// Magnitude above, sign below: the greatest of such numbers is that of the value of largest magnitude.
CDNA_INLINE U32 sign_last(U32 bits) { return bits << 1 | bits >> 31; }

CDNA_INLINE uint32_t largest_of(const float* x, size_t count) {
  U32 most = {};
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const U32 number = sign_last(load<U32>(x + i));
    most = number > most ? number : most;
  }
  uint32_t all = greatest(most);
  for (; i < count; ++i) {
    const uint32_t bits = bits_of_float(x[i]);
    const uint32_t number = bits << 1 | bits >> 31;
    all = number > all ? number : all;
  }
  return all;
}

void find_largest(const float* x, size_t count, size_t group, float* largest) {
  for (size_t begin = 0; begin < count; begin += group) {
    const uint32_t number = largest_of(x + begin, count - begin < group ? count - begin : group);
    *largest++ = float_of_bits(number >> 1 | number << 31);
  }
}

void add_squares(const float* x, size_t count, double* lanes) {
  F64 sum[8 / kDoubles];
  copy(sum, lanes, sizeof sum);
  size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (int j = 0; j < 8 / kDoubles; ++j) {
      const F64 wide = __builtin_convertvector(load<HalfF32>(x + i + j * kDoubles), F64);
      sum[j] += wide * wide;
    }
  }
  copy(lanes, sum, sizeof sum);
  for (size_t lane = 0; i < count; ++i, ++lane) lanes[lane] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
}

void divide(const float* x, size_t count, float divisor, float* out) {
  for_lanes(
      count, [&](size_t i) { store(out + i, load<F32>(x + i) / divisor); }, [&](size_t i) { out[i] = x[i] / divisor; });
}

void multiply(const float* u, size_t count, float factor, float* out) {
  for_lanes(
      count, [&](size_t i) { store(out + i, load<F32>(u + i) * factor); }, [&](size_t i) { out[i] = u[i] * factor; });
}

constexpr int32_t kMagnitudes = CDNA_HISTOGRAM_MAGNITUDES;

CDNA_INLINE I32 bins_of(U32 bits) {
  const I32 key = (I32)((bits & 0x7FFFFFFFU) >> uint32_t{CDNA_HISTOGRAM_SHIFT}) - int32_t{CDNA_HISTOGRAM_FIRST};
  const I32 above = key < 0 ? I32{} : key;
  const I32 magnitude = above >= kMagnitudes ? I32{} + (kMagnitudes - 1) : above;
  const I32 negative = (I32)bits >> 31;  // All ones, or zero: ~m + n is n - 1 - m.
  return (magnitude ^ negative) + kMagnitudes;
}

void count_magnitudes(const float* v, size_t count, uint32_t* counts) {
  int32_t bins[kLanes];
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    store(bins, bins_of(load<U32>(v + i)));
    for (int lane = 0; lane < kLanes; ++lane) ++counts[bins[lane]];
  }
  if (i == count) return;
  uint32_t rest[kLanes] = {};
  copy(rest, v + i, sizeof(float) * (count - i));
  store(bins, bins_of(load<U32>(rest)));
  for (size_t lane = 0; lane < count - i; ++lane) ++counts[bins[lane]];
}

size_t find_large(const float* v, size_t count, float bound, uint32_t* places) {
  const auto least = static_cast<int32_t>(bits_of_float(bound));
  size_t found = 0;
  const auto look_at = [&](size_t i) {
    if (static_cast<int32_t>(bits_of_float(v[i]) & 0x7FFFFFFFU) >= least) places[found++] = static_cast<uint32_t>(i);
  };
  size_t i = 0;
  for (; i + kStep <= count; i += kStep) {
    I32 large = {};
    for (int j = 0; j < kVectors; ++j) large |= (load<I32>(v + i + j * kLanes) & 0x7FFFFFFF) >= least;
    if (!any(large)) continue;
    for (size_t lane = 0; lane < kStep; ++lane) look_at(i + lane);
  }
  for (; i < count; ++i) look_at(i);
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
          F32 values[kVectors];
          I32 numbers[kVectors];
          U8 low[kVectors];
          load_step(padded(v + i, left, rest), values);
          entries.nearest(values, numbers);
          for (int j = 0; j < kVectors; ++j) low[j] = __builtin_convertvector(numbers[j], U8) & entries.kMask;
          copy(codes + i, low, left < kStep ? left : kStep);
        }
        return 0;
      });
}

// Adds the squared errors of 32 values. With fewer than 32 `lanes` the rest does not count.
template <class Codebook>
CDNA_INLINE void add_step_error(const Codebook& entries, const float* u, size_t lanes, float scale, float inverse,
                                F32 (&sum)[16 / kLanes]) {
  F32 value[kVectors];
  F32 scaled[kVectors];
  I32 codes[kVectors];
  F32 decoded[kVectors];
  load_step(u, value);
  for (int j = 0; j < kVectors; ++j) scaled[j] = value[j] * inverse;
  entries.nearest(scaled, codes);
  entries.values(codes, decoded);
  for (int j = 0; j < kVectors; ++j) {
    F32 error = value[j] - decoded[j] * scale;
    if (lanes < kStep) {
      const I32 counts = lane_numbers() + j * kLanes < static_cast<int32_t>(lanes);
      error = (F32)((I32)error & counts);
    }
    sum[j % (16 / kLanes)] += error * error;
  }
}

template <class Codebook>
CDNA_INLINE float group_error(const Codebook& entries, const float* u, size_t count, float scale, float inverse) {
  F32 sum[16 / kLanes] = {};
  size_t i = 0;
  for (; i + kStep <= count; i += kStep) add_step_error(entries, u + i, kStep, scale, inverse, sum);
  if (i < count) {
    float rest[kStep] = {};
    add_step_error(entries, padded(u + i, count - i, rest), count - i, scale, inverse, sum);
  }
  return sum_of(sum);
}

template <class Codebook>
CDNA_INLINE uint32_t search_scale(const Codebook& entries, const cdna_scale_table& table, const float* u, size_t count,
                                  uint32_t start) {
  const uint32_t sign = table.negative != 0 && start > table.negative ? table.negative : 0;
  const uint32_t middle = start - sign;
  constexpr uint32_t kReach = CDNA_SCALE_CANDIDATES / 2;
  const uint32_t begin = sign + (middle < table.first + kReach ? table.first : middle - kReach);
  const uint32_t end = sign + (middle + kReach > table.last ? table.last : middle + kReach);
  // Bits of an error that is not negative, then the number: the least of these is the choice, without a branch.
  uint64_t best = ~uint64_t{0};
  for (uint32_t number = begin; number <= end; ++number) {
    const float error = group_error(entries, u, count, table.values[number], table.inverses[number]);
    const uint64_t candidate = static_cast<uint64_t>(bits_of_float(error)) << 32 | number;
    best = candidate < best ? candidate : best;
  }
  return static_cast<uint32_t>(best);
}

void search_scales(const cdna_codebook* codebook, const cdna_scale_table* table, const float* u, size_t count,
                   size_t group, const uint8_t* starts, uint8_t* numbers) {
  with_entries(
      *codebook, [&](const auto& entries) __attribute__((always_inline)) {
        for (size_t begin = 0, i = 0; begin < count; begin += group, ++i) {
          const size_t size = count - begin < group ? count - begin : group;
          numbers[i] = starts[i] == 0 ? uint8_t{0}
                                      : static_cast<uint8_t>(search_scale(entries, *table, u + begin, size, starts[i]));
        }
        return 0;
      });
}

void decode(const cdna_codebook* codebook, const uint8_t* codes, size_t count, float scale, float* out) {
  with_entries(
      *codebook, [&](const auto& entries) __attribute__((always_inline)) {
        uint8_t rest[kStep] = {};
        for (size_t i = 0; i < count; i += kStep) {
          const size_t left = count - i;
          F32 values[kVectors];
          entries.decode(padded(codes + i, left, rest), values);
          for (int j = 0; j < kVectors; ++j) values[j] *= scale;
          copy(out + i, values, sizeof(float) * (left < kStep ? left : kStep));
        }
        return 0;
      });
}

CDNA_INLINE void add_error(cdna_error_sums& sums, size_t lane, float x, float decoded) {
  const double value = static_cast<double>(x);
  const double distance = value - sums.pivot;
  const double square = distance * distance;
  const double error = value - static_cast<double>(decoded);
  const double magnitude = error < 0 ? -error : error;
  sums.d[lane] += distance;
  sums.d2[lane] += square;
  sums.d3[lane] += square * distance;
  sums.d4[lane] += square * square;
  sums.w2[lane] += value * value;
  sums.error2[lane] += error * error;
  if (magnitude > sums.error_max[lane]) sums.error_max[lane] = magnitude;
}

// One vector of each partial sum.
struct ErrorLanes {
  F64 d, d2, d3, d4, w2, error2, error_max;

  CDNA_INLINE void add(const float* x, const float* decoded, double pivot) {
    const F64 value = __builtin_convertvector(load<HalfF32>(x), F64);
    const F64 distance = value - pivot;
    const F64 square = distance * distance;
    const F64 error = value - __builtin_convertvector(load<HalfF32>(decoded), F64);
    const F64 magnitude = (F64)((I64)error & 0x7FFFFFFFFFFFFFFFLL);
    d += distance;
    d2 += square;
    d3 += square * distance;
    d4 += square * square;
    w2 += value * value;
    error2 += error * error;
    error_max = magnitude > error_max ? magnitude : error_max;
  }
};

CDNA_INLINE ErrorLanes load_lanes(const cdna_error_sums& sums, int lane) {
  return {load<F64>(sums.d + lane),        load<F64>(sums.d2 + lane), load<F64>(sums.d3 + lane),
          load<F64>(sums.d4 + lane),       load<F64>(sums.w2 + lane), load<F64>(sums.error2 + lane),
          load<F64>(sums.error_max + lane)};
}

CDNA_INLINE void store_lanes(const ErrorLanes& lanes, int lane, cdna_error_sums& sums) {
  store(sums.d + lane, lanes.d);
  store(sums.d2 + lane, lanes.d2);
  store(sums.d3 + lane, lanes.d3);
  store(sums.d4 + lane, lanes.d4);
  store(sums.w2 + lane, lanes.w2);
  store(sums.error2 + lane, lanes.error2);
  store(sums.error_max + lane, lanes.error_max);
}

void add_errors(const float* x, const float* decoded, size_t count, uint64_t first, cdna_error_sums* sums) {
  size_t i = 0;
  for (; i < count && (first + i) % 8 != 0; ++i) add_error(*sums, (first + i) % 8, x[i], decoded[i]);
  const double pivot = sums->pivot;
  // One turn per vector of partial sums: all seven of it stay in registers.
  for (int lane = 0; lane < 8; lane += kDoubles) {
    ErrorLanes lanes = load_lanes(*sums, lane);
    for (size_t j = i; j + 8 <= count; j += 8) lanes.add(x + j + lane, decoded + j + lane, pivot);
    store_lanes(lanes, lane, *sums);
  }
  i += (count - i) / 8 * 8;
  for (size_t lane = 0; i < count; ++i, ++lane) add_error(*sums, lane, x[i], decoded[i]);
}

constexpr cdna_codebook_kernels kKernels = {widen_bf16, widen_f16,        max_magnitude, find_largest, add_squares,
                                            divide,     count_magnitudes, find_large,    nearest,      search_scales,
                                            multiply,   decode,           add_errors};

}  // namespace
