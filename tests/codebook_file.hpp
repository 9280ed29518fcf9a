// A codebook tensor alone in a file, read by the offsets of spec/format.md, and everything that the encoder promises of
// it. Nothing here calls the library's encoder, decoder or number conversions: it is what they are compared with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "cdna/preset.hpp"
#include "cdna/writer.hpp"
#include "random.hpp"
#include "sample_file.hpp"
#include "small_floats.hpp"

namespace cdna::test {

using Bytes = std::vector<std::byte>;

inline constexpr DType kFloatTypes[] = {DType::f16, DType::bf16, DType::f32, DType::f64};

// Student's t with 3 degrees of freedom, times 0.02.
std::vector<double> heavy_values(std::uint64_t seed, std::uint64_t count);

template <class T>
T load(const std::byte* from, std::uint64_t index = 0) {
  T value;
  std::memcpy(&value, from + index * sizeof(T), sizeof(T));
  return value;
}

// Element `index`; any NaN for a NaN.
double float_at(DType dtype, const std::byte* from, std::uint64_t index);
// Values in the float type, each rounded once.
Bytes bytes_of(DType dtype, const std::vector<double>& values);

// ---- The file ----

enum RawRole : std::uint16_t {
  kRawCodes = 2,
  kRawCodebook = 3,
  kRawRowScale = 4,
  kRawGroupScale = 5,
  kRawScaleTable = 6,
  kRawOutliers = 7,
  kRawPwl = 0x8012,
  kRawAffine = 0x8013,
  kRawStatistics = 0x8014,
};

struct RawPlane {
  std::uint64_t offset = 0;
  std::uint64_t row_entries = 0;
  std::uint32_t block_count = 0;
  std::uint32_t rows_per_block = 0;
  std::uint16_t role = 0;
  std::uint16_t group = 0;
  std::uint8_t bits = 0;
  std::uint8_t dtype = 0;
  std::uint64_t first_entry = 0;  // Of the index.
};

// One outlier: its place in the tensor and its stored bytes.
struct RawOutlier {
  std::uint64_t element = 0;
  const std::byte* value = nullptr;
};

// The first item of a file, which is a codebook tensor in raw blocks.
class RawTensor {
 public:
  RawTensor(const Bytes& file, std::uint64_t cols, DType dtype);

  const RawPlane* find(RawRole role) const;
  const std::vector<RawPlane>& planes() const { return planes_; }
  std::uint64_t optional_features() const;
  double sum_squares() const;
  double sum_squared_error() const;
  // Of a plane that is there.
  const std::byte* bytes_of(RawRole role) const;

  std::uint64_t cols() const { return cols_; }
  std::uint32_t bits() const { return find(kRawCodes)->bits; }
  std::uint64_t block_elements() const { return find(kRawCodes)->rows_per_block * cols_; }
  float block_max_abs_error(std::uint64_t block) const;
  std::uint32_t code(std::uint64_t element) const;
  std::uint16_t half(std::uint64_t code) const { return load<std::uint16_t>(bytes_of(kRawCodebook), code); }
  double entry(std::uint64_t code) const { return value_of_f16(half(code)); }
  float row_scale(std::uint64_t row) const { return load<float>(bytes_of(kRawRowScale), row); }
  // The number of an element's group scale, and the scale itself.
  std::uint8_t group_number(std::uint64_t element) const;
  float table_value(std::uint8_t number) const { return load<float>(bytes_of(kRawScaleTable), number); }
  std::vector<RawOutlier> outliers() const;
  // 13.2, as f32. The product of two f32 is exact in f64, so that one conversion rounds it once.
  std::vector<float> decode(std::uint64_t count) const;

 private:
  const std::byte* index_entry(const RawPlane& plane, std::uint64_t block) const;

  const Bytes& file_;
  std::uint64_t cols_;
  DType dtype_;
  const std::byte* item_ = nullptr;
  std::vector<RawPlane> planes_;
};

// ---- A tensor and all that is said about it ----

struct EncodedTensor {
  DType dtype = DType::none;
  std::uint64_t cols = 1;
  CodebookOptions options;
  Bytes source;
  Bytes file;
  WrittenItem written;

  std::uint64_t count() const { return source.size() * 8 / bits_of(dtype); }
  std::uint64_t rows() const { return count() / cols; }
  double original(std::uint64_t i) const { return float_at(dtype, source.data(), i); }
};

// Writes it as tensor "x". Throws std::runtime_error where the writer refuses.
EncodedTensor encode_tensor(DType dtype, const std::vector<std::uint64_t>& shape, Bytes source,
                            const CodebookOptions& options = {}, Codec codec = Codec::raw, unsigned threads = 1);
EncodedTensor encode_tensor(DType dtype, const std::vector<std::uint64_t>& shape, const std::vector<double>& values,
                            const CodebookOptions& options = {});

// As a reader returns it, from files of any codec.
Bytes read_tensor(const EncodedTensor& encoded, DType dtype);
std::vector<float> read_floats(const EncodedTensor& encoded);

// What does not hold, each in a line; empty if all does. Of files in raw blocks:
// - fsck finds nothing, deep; the planes are those that the options ask for;
// - a reader decodes to the bits of RawTensor::decode; all is finite but for outliers that are not;
// - the codebook ascends, has at most options.entries values, and is what plane pwl or affine claims;
// - row scales are the rms times the best of nine factors (of long rows 1), or with groups the largest magnitude; each
//   group scale is the best of its nine candidates;
// - each code is the nearest entry's, the lower one of two;
// - outliers are exact to the bit, the largest after scaling, and not too many;
// - block bounds are the least f32 that hold for differences in f64; sums have the bits of section 17; the statistics
//   are right.
std::vector<std::string> broken_promises(const EncodedTensor& encoded);

double snr_db(const EncodedTensor& encoded);

}  // namespace cdna::test
