// The reference decoder and the independent computations of what the encoder stores.
#include "codebook_file.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <map>
#include <stdexcept>

#include "cdna/fsck.hpp"
#include "cdna/reader.hpp"

namespace cdna::test {
namespace {

__extension__ using Quad = __float128;  // 113 bits: every difference of two values below is exact.

// An outlier as f32: 13.2 for NaNs, else the value rounded once.
float outlier_value(DType dtype, const std::byte* from) {
  const double value = float_at(dtype, from, 0);
  if (!std::isnan(value)) return static_cast<float>(value);
  if (dtype == DType::f32) return load<float>(from);
  if (dtype == DType::f64) {
    const auto bits = load<std::uint64_t>(from);
    const auto payload = static_cast<std::uint32_t>(bits >> 29 & 0x3FFFFFU);
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits >> 32 & 0x80000000U) | 0x7FC00000U | payload);
  }
  const std::uint32_t bits = load<std::uint16_t>(from);
  if (dtype == DType::bf16) return std::bit_cast<float>(bits << 16);
  return std::bit_cast<float>((bits & 0x8000U) << 16 | 0x7F800000U | (bits & 0x3FFU) << 13);
}

bool is_finite_f32(double value) { return std::isfinite(static_cast<float>(value)); }

// The least f32 that is not below `x`.
float rounded_up(double x) {
  const auto nearest = static_cast<float>(x);
  return static_cast<double>(nearest) >= x ? nearest : std::nextafter(nearest, std::numeric_limits<float>::infinity());
}

double total(const std::array<double, 8>& sums) {
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

}  // namespace

std::vector<double> heavy_values(std::uint64_t seed, std::uint64_t count) {
  Noise noise(seed);
  std::vector<double> values(count);
  for (double& value : values) value = noise.student(3) * 0.02;
  return values;
}

double float_at(DType dtype, const std::byte* from, std::uint64_t index) {
  switch (dtype) {
    case DType::f16:
      return value_of_f16(load<std::uint16_t>(from, index));
    case DType::bf16:
      return value_of_bf16(load<std::uint16_t>(from, index));
    case DType::f32:
      return static_cast<double>(load<float>(from, index));
    default:
      return load<double>(from, index);
  }
}

Bytes bytes_of(DType dtype, const std::vector<double>& values) {
  Bytes bytes(values.size() * bits_of(dtype) / 8);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto narrow = static_cast<float>(values[i]);
    if (dtype == DType::f16 || dtype == DType::bf16) {
      const std::uint16_t half = dtype == DType::f16 ? f16_of(values[i]) : bf16_of(values[i]);
      std::memcpy(&bytes[2 * i], &half, 2);
    }
    if (dtype == DType::f32) std::memcpy(&bytes[4 * i], &narrow, 4);
    if (dtype == DType::f64) std::memcpy(&bytes[8 * i], &values[i], 8);
  }
  return bytes;
}

// ---- The file ----

RawTensor::RawTensor(const Bytes& file, std::uint64_t cols, DType dtype) : file_(file), cols_(cols), dtype_(dtype) {
  const std::byte* const tail = file.data() + file.size() - 256;
  const std::byte* const footer = file.data() + load<std::uint64_t>(tail + 40);
  const auto item_count = load<std::uint32_t>(tail + 56);
  item_ = footer + 56;
  const std::byte* plane = footer + 56 + 160 * std::size_t{item_count} + 8;
  std::uint64_t entries = 0;
  for (int i = 0; i < load<std::uint8_t>(item_ + 126); ++i, plane += 48) {
    planes_.push_back({load<std::uint64_t>(plane), load<std::uint64_t>(plane + 16), load<std::uint32_t>(plane + 24),
                       load<std::uint32_t>(plane + 28), load<std::uint16_t>(plane + 32),
                       load<std::uint16_t>(plane + 34), load<std::uint8_t>(plane + 36), load<std::uint8_t>(plane + 37),
                       entries});
    entries += planes_.back().block_count;
  }
}

const RawPlane* RawTensor::find(RawRole role) const {
  const auto found = std::find_if(planes_.begin(), planes_.end(), [role](const RawPlane& p) { return p.role == role; });
  return found == planes_.end() ? nullptr : &*found;
}

std::uint64_t RawTensor::optional_features() const { return load<std::uint64_t>(item_ + 136); }
double RawTensor::sum_squares() const { return load<double>(item_ + 80); }
double RawTensor::sum_squared_error() const { return load<double>(item_ + 88); }
const std::byte* RawTensor::bytes_of(RawRole role) const { return file_.data() + find(role)->offset; }

const std::byte* RawTensor::index_entry(const RawPlane& plane, std::uint64_t block) const {
  return file_.data() + load<std::uint64_t>(item_ + 8) + 64 * (plane.first_entry + block);
}

float RawTensor::block_max_abs_error(std::uint64_t block) const {
  return load<float>(index_entry(*find(kRawCodes), block) + 20);
}

std::uint32_t RawTensor::code(std::uint64_t element) const {
  const std::uint32_t width = bits();
  const std::uint64_t row_bytes = (cols_ * width + 7) / 8;
  const std::byte* const row = bytes_of(kRawCodes) + element / cols_ * row_bytes;
  std::uint32_t code = 0;
  for (std::uint32_t i = 0; i < width; ++i) {
    const std::uint64_t bit = element % cols_ * width + i;
    code |= (std::to_integer<std::uint32_t>(row[bit / 8]) >> (bit % 8) & 1U) << i;
  }
  return code;
}

std::uint8_t RawTensor::group_number(std::uint64_t element) const {
  const RawPlane& plane = *find(kRawGroupScale);
  return load<std::uint8_t>(bytes_of(kRawGroupScale),
                            element / cols_ * plane.row_entries + element % cols_ / plane.group);
}

std::vector<RawOutlier> RawTensor::outliers() const {
  std::vector<RawOutlier> found;
  const RawPlane* const plane = find(kRawOutliers);
  if (plane == nullptr) return found;
  const std::uint64_t size = bits_of(dtype_) / 8;
  for (std::uint64_t block = 0; block < plane->block_count; ++block) {
    const std::byte* const entry = index_entry(*plane, block);
    if (load<std::uint8_t>(entry + 16) != 0) throw std::runtime_error("an outlier block is compressed");
    const std::byte* const bytes = file_.data() + plane->offset + load<std::uint64_t>(entry);
    const std::uint64_t count = load<std::uint32_t>(entry + 12) / (size + 4);
    for (std::uint64_t i = 0; i < count; ++i) {
      const auto position = load<std::uint32_t>(bytes + count * size, i);
      found.push_back({block * block_elements() + position, bytes + i * size});
    }
  }
  return found;
}

std::vector<float> RawTensor::decode(std::uint64_t count) const {
  std::vector<float> out(count);
  for (std::uint64_t i = 0; i < count; ++i) {
    float scale = row_scale(i / cols_);
    if (find(kRawGroupScale) != nullptr)
      scale = static_cast<float>(static_cast<double>(table_value(group_number(i))) * static_cast<double>(scale));
    out[i] = static_cast<float>(entry(code(i)) * static_cast<double>(scale));
  }
  for (const RawOutlier& outlier : outliers()) out[outlier.element] = outlier_value(dtype_, outlier.value);
  return out;
}

// ---- A tensor and all that is said about it ----

EncodedTensor encode_tensor(DType dtype, const std::vector<std::uint64_t>& shape, Bytes source,
                            const CodebookOptions& options, Codec codec, unsigned threads) {
  EncodedTensor encoded{dtype, 1, options, std::move(source), {}, {}};
  for (std::size_t i = default_row_dims(dtype, shape); i < shape.size(); ++i) encoded.cols *= shape[i];
  Writer writer = must(Writer::create(memory_sink(encoded.file), {4096, threads, nullptr}));
  const TensorSpec spec{"x", dtype, shape, Role::matrix, codec};
  encoded.written = writer.written(must(writer.add_codebook(spec, options, reader_of(encoded.source))));
  must(writer.finish());
  return encoded;
}

EncodedTensor encode_tensor(DType dtype, const std::vector<std::uint64_t>& shape, const std::vector<double>& values,
                            const CodebookOptions& options) {
  return encode_tensor(dtype, shape, bytes_of(dtype, values), options);
}

Bytes read_tensor(const EncodedTensor& encoded, DType dtype) {
  const Reader reader = must(Reader::open(memory_source(encoded.file)));
  const Tensor tensor = *reader.find("x");
  Bytes out(tensor.rows() * tensor.row_bytes(dtype));
  const Result<void> read = tensor.read_rows(0, tensor.rows(), dtype, out);
  if (!read) throw std::runtime_error(read.error().describe());
  return out;
}

std::vector<float> read_floats(const EncodedTensor& encoded) {
  const Bytes bytes = read_tensor(encoded, DType::f32);
  std::vector<float> out(bytes.size() / 4);
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

double snr_db(const EncodedTensor& encoded) {
  const TensorStatistics& known = encoded.written.statistics;
  return 10 * std::log10(known.sum_squares / known.sum_squared_error);
}

namespace {

// Looks at one tensor from all sides.
class Inspection {
 public:
  explicit Inspection(const EncodedTensor& encoded)
      : encoded_(encoded),
        options_(encoded.options),
        raw_(encoded.file, encoded.cols, encoded.dtype),
        outliers_(raw_.outliers()),
        decoded_(raw_.decode(encoded.count())),
        is_outlier_(encoded.count()) {
    for (const RawOutlier& outlier : outliers_) is_outlier_.at(outlier.element) = true;
    for (std::uint64_t i = 0; i < encoded.count(); ++i) values_.push_back(encoded.original(i));
    for (std::uint32_t i = 0; i < 1U << raw_.bits(); ++i) entries_.push_back(static_cast<float>(raw_.entry(i)));
    for (std::size_t i = 0; i + 1 < entries_.size(); ++i) {
      // A sum of two binary16 numbers is exact in f64; the midpoint is that, rounded once to f32.
      const double sum = static_cast<double>(entries_[i]) + static_cast<double>(entries_[i + 1]);
      midpoints_.push_back(static_cast<float>(sum / 2));
    }
  }

  std::vector<std::string> run() {
    check_file();
    check_planes();
    check_decoding();
    check_codebook();
    check_claim();
    check_row_scales();
    check_group_scales();
    check_codes();
    check_outliers();
    check_bounds();
    check_sums();
    check_statistics();
    for (const auto& [text, times] : broken_) lines_.push_back(text + ": " + std::to_string(times) + " times");
    return std::move(lines_);
  }

 private:
  void expect(bool holds, const char* text) {
    if (!holds) ++broken_[text];
  }

  bool grouped() const { return options_.group != 0; }
  float narrow(std::uint64_t i) const { return static_cast<float>(values_[i]); }
  bool is_finite(std::uint64_t i) const { return is_finite_f32(values_[i]); }

  void check_file() {
    FsckOptions options;
    options.level = FsckLevel::deep;
    const FsckReport report = fsck(memory_source(encoded_.file), options);
    for (const FsckProblem& problem : report.problems) lines_.push_back("fsck: " + problem.error.describe());
    expect(report.valid, "fsck finds the file valid");
    bool nonfinite = false;
    for (const RawOutlier& outlier : outliers_)
      nonfinite = nonfinite || !std::isfinite(float_at(encoded_.dtype, outlier.value, 0));
    expect(raw_.optional_features() == (nonfinite ? 1 : 0), "feature NONFINITE is set exactly when needed");
  }

  void check_planes() {
    std::vector<std::uint16_t> expected{kRawCodes, kRawCodebook, kRawRowScale};
    if (grouped()) expected.insert(expected.end(), {kRawGroupScale, kRawScaleTable});
    if (!outliers_.empty()) expected.push_back(kRawOutliers);
    if (options_.codebook_class == CodebookClass::pwl16) expected.push_back(kRawPwl);
    if (options_.codebook_class == CodebookClass::affine) expected.push_back(kRawAffine);
    expected.push_back(kRawStatistics);
    std::vector<std::uint16_t> roles;
    for (const RawPlane& plane : raw_.planes()) roles.push_back(plane.role);
    expect(roles == expected, "the planes are those that the options ask for");
    expect(raw_.bits() == std::uint32_t(std::bit_width(options_.entries - 1)), "codes have ceil(log2 k) bits");
    expect(raw_.find(kRawCodebook)->row_entries == std::uint64_t{1} << raw_.bits(), "every code has an entry");
    if (grouped()) {
      const RawPlane& plane = *raw_.find(kRawGroupScale);
      expect(
          plane.group == options_.group && plane.row_entries == (encoded_.cols + options_.group - 1) / options_.group,
          "group_scale has an entry for each group");
    }
  }

  void check_decoding() {
    const Bytes read = read_tensor(encoded_, DType::f32);
    expect(read.size() == decoded_.size() * 4 && std::memcmp(read.data(), decoded_.data(), read.size()) == 0,
           "a reader decodes to the reference's bits");
    for (std::uint64_t i = 0; i < decoded_.size(); ++i)
      expect(std::isfinite(decoded_[i]) || (is_outlier_[i] && !is_finite(i)), "decoded values are finite");
  }

  void check_codebook() {
    std::size_t different = 1;
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      expect(std::isfinite(entries_[i]), "codebook entries are finite");
      if (i == 0) continue;
      expect(entries_[i - 1] <= entries_[i], "codebook entries ascend");
      different += entries_[i - 1] < entries_[i];
    }
    expect(different <= options_.entries, "the codebook has at most k entries");
  }

  // 13.3: entry(h, l) = RN16(base + l * step), exact in f64 before it is rounded.
  void check_claim() {
    const bool affine = options_.codebook_class == CodebookClass::affine;
    if (options_.codebook_class == CodebookClass::free) return;
    const RawRole role = affine ? kRawAffine : kRawPwl;
    const std::size_t segments = affine ? 1 : 16;
    const RawPlane* const plane = raw_.find(role);
    if (plane == nullptr) return;  // Told by check_planes().
    expect(plane->row_entries == 2 * segments && plane->bits == 16, "a claim has base and step of each segment");
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      const std::size_t each = entries_.size() / segments;
      const double base = value_of_f16(load<std::uint16_t>(raw_.bytes_of(role), 2 * (i / each)));
      const double step = value_of_f16(load<std::uint16_t>(raw_.bytes_of(role), 2 * (i / each) + 1));
      expect(raw_.half(i) == f16_of(base + static_cast<double>(i % each) * step), "the codebook is what is claimed");
    }
  }

  // sqrt of the mean square of the finite elements as f32, in the order of section 17.
  float rms(std::uint64_t row) const {
    std::array<double, 8> sums{};
    std::uint64_t count = 0;
    for (std::uint64_t j = 0; j < encoded_.cols; ++j) {
      const std::uint64_t i = row * encoded_.cols + j;
      if (!is_finite(i)) continue;
      sums[j % 8] += static_cast<double>(narrow(i)) * static_cast<double>(narrow(i));
      ++count;
    }
    return count == 0 ? 0 : static_cast<float>(std::sqrt(total(sums) / static_cast<double>(count)));
  }

  bool overflows(float row_scale) const {
    const float magnitude = std::max(std::abs(entries_.front()), std::abs(entries_.back()));
    return !std::isfinite(row_scale * std::max(1.0F, magnitude) * 2);
  }

  void check_row_scales() {
    for (std::uint64_t row = 0; row < encoded_.rows(); ++row) {
      const float stored = raw_.row_scale(row);
      // There, what decodes to an infinity becomes an outlier afterwards.
      if (overflows(stored)) continue;
      if (grouped()) {
        float largest = 0;
        for (std::uint64_t i = row * encoded_.cols; i < (row + 1) * encoded_.cols; ++i) {
          if (is_finite(i) && !is_outlier_[i]) largest = std::max(largest, std::abs(narrow(i)));
        }
        expect(stored == largest, "with groups, row scales are the largest magnitudes");
      } else {
        expect(stored == best_row_scale(row), "row scales are the rms times the best of nine factors");
      }
    }
  }

  // The rms; in rows of up to 2048 values times 2^(-1/8) to 2^(1/8) in steps of 1/32, whichever has the least error.
  float best_row_scale(std::uint64_t row) const {
    const float size = rms(row);
    if (encoded_.cols > 2048 || size == 0) return size;
    std::vector<float> values;
    for (std::uint64_t j = 0; j < encoded_.cols; ++j) {
      const std::uint64_t i = row * encoded_.cols + j;
      if (!is_outlier_[i]) values.push_back(narrow(i) / size);
    }
    if (values.empty()) return size;
    float best = 1;
    float least = std::numeric_limits<float>::infinity();
    for (int step = -4; step <= 4; ++step) {
      const auto factor = static_cast<float>(std::exp2(step / 32.0));
      const float error = group_error(values, factor);
      if (!(error < least)) continue;
      least = error;
      best = factor;
    }
    return size * best;
  }

  // The number of midpoints below it, by halving.
  std::size_t nearest(float value) const {
    return static_cast<std::size_t>(std::lower_bound(midpoints_.begin(), midpoints_.end(), value) - midpoints_.begin());
  }

  // Values in units of the row's scale, as search_scales() sees them: without outliers.
  std::vector<float> group_values(std::uint64_t first, std::uint64_t count) const {
    std::vector<float> values;
    for (std::uint64_t i = 0; i < count; ++i) {
      if (!is_outlier_[first + i]) values.push_back(narrow(first + i) / raw_.row_scale(first / encoded_.cols));
    }
    return values;
  }

  float group_error(const std::vector<float>& values, float scale) const {
    const float inverse = 1 / scale;
    std::array<float, 16> sums{};
    for (std::size_t i = 0; i < values.size(); ++i) {
      const float decoded = entries_[nearest(values[i] * inverse)] * scale;
      sums[i % 16] += (values[i] - decoded) * (values[i] - decoded);
    }
    for (std::size_t half = 8; half >= 1; half /= 2) {
      for (std::size_t i = 0; i < half; ++i) sums[i] += sums[i + half];
    }
    return sums[0];
  }

  // Of the candidates around the largest magnitude (of two the negative one), the least error, the least number.
  std::uint32_t best_scale(const std::vector<float>& values) const {
    const auto largest = std::max_element(values.begin(), values.end(), [](float a, float b) {
      return std::abs(a) < std::abs(b) || (std::abs(a) == std::abs(b) && a > b);
    });
    if (largest == values.end() || *largest == 0) return 0;
    const bool has_negative = raw_.table_value(255) < 0;  // 1..127 ascend, 129..255 are their negatives.
    const std::uint32_t last = has_negative ? 127 : 255;
    std::uint32_t middle = 1;
    while (middle < last && raw_.table_value(static_cast<std::uint8_t>(middle)) < std::abs(*largest)) ++middle;
    const std::uint32_t sign = has_negative && std::signbit(*largest) ? 128 : 0;
    std::uint32_t best = 0;
    float least = std::numeric_limits<float>::infinity();
    for (std::uint32_t i = middle < 5 ? 1 : middle - 4; i <= std::min(last, middle + 4); ++i) {
      const float error = group_error(values, raw_.table_value(static_cast<std::uint8_t>(i + sign)));
      if (!(error < least)) continue;
      least = error;
      best = i + sign;
    }
    return best;
  }

  void check_group_scales() {
    if (!grouped()) return;
    for (std::uint64_t row = 0; row < encoded_.rows(); ++row) {
      for (std::uint64_t begin = 0; begin < encoded_.cols; begin += options_.group) {
        const std::uint64_t first = row * encoded_.cols + begin;
        const std::uint64_t count = std::min<std::uint64_t>(options_.group, encoded_.cols - begin);
        const std::uint32_t number = raw_.group_number(first);
        if (overflows(raw_.row_scale(row))) continue;
        if (raw_.row_scale(row) == 0) {
          expect(number == 0, "groups of zeros have scale 0");
        } else {
          expect(number == best_scale(group_values(first, count)), "each group's scale is the best candidate");
        }
      }
    }
  }

  void check_codes() {
    const std::size_t last = nearest(std::numeric_limits<float>::max());
    for (std::uint64_t i = 0; i < encoded_.count(); ++i) {
      const float scale = raw_.row_scale(i / encoded_.cols);
      const std::uint32_t code = raw_.code(i);
      if (options_.codebook_class == CodebookClass::free)
        expect(code < options_.entries && (code <= last || scale == 0), "codes are below k");
      if (is_outlier_[i]) continue;
      const std::uint8_t number = grouped() ? raw_.group_number(i) : 0;
      if (scale == 0 || (grouped() && number == 0)) {
        expect(decoded_[i] == 0, "rows and groups of zeros decode to 0");
        continue;
      }
      float wanted = narrow(i) / scale;
      if (grouped()) wanted *= 1 / raw_.table_value(number);
      // By value: of equal entries any will do.
      expect(entries_[code] == entries_[nearest(wanted)], "codes are the nearest entries'");
    }
  }

  void check_outliers() {
    const Bytes restored = read_tensor(encoded_, encoded_.dtype);
    const std::size_t size = bits_of(encoded_.dtype) / 8;
    std::uint64_t not_finite = 0;
    std::uint64_t overflowing = 0;
    for (const RawOutlier& outlier : outliers_) {
      const std::size_t place = outlier.element * size;
      expect(std::memcmp(&restored[place], &encoded_.source[place], size) == 0 &&
                 std::memcmp(outlier.value, &encoded_.source[place], size) == 0,
             "outliers are exact to the bit");
      not_finite += !is_finite(outlier.element);
      overflowing += is_finite(outlier.element) && overflows(raw_.row_scale(outlier.element / encoded_.cols));
    }
    for (std::uint64_t i = 0; i < encoded_.count(); ++i)
      expect(is_outlier_[i] || is_finite(i), "values that are not finite are outliers");
    const double allowed = options_.outlier_fraction * static_cast<double>(encoded_.count());
    expect(static_cast<double>(outliers_.size() - not_finite - overflowing) <= allowed, "outliers are not too many");
    if (overflowing == 0) check_outliers_are_largest();
  }

  void check_outliers_are_largest() {
    float largest_kept = 0;
    float least_outlier = std::numeric_limits<float>::infinity();
    for (std::uint64_t row = 0; row < encoded_.rows(); ++row) {
      const float size = rms(row);
      if (size == 0) continue;
      for (std::uint64_t i = row * encoded_.cols; i < (row + 1) * encoded_.cols; ++i) {
        if (!is_finite(i)) continue;
        const float scaled = std::abs(narrow(i) / size);
        if (is_outlier_[i]) least_outlier = std::min(least_outlier, scaled);
        if (!is_outlier_[i]) largest_kept = std::max(largest_kept, scaled);
      }
    }
    expect(largest_kept < least_outlier, "outliers are the largest after scaling");
  }

  void check_bounds() {
    const std::uint64_t size = raw_.block_elements();
    for (std::uint64_t begin = 0, block = 0; begin < encoded_.count(); begin += size, ++block) {
      const float bound = raw_.block_max_abs_error(block);
      double most = 0;
      for (std::uint64_t i = begin; i < std::min(begin + size, encoded_.count()); ++i) {
        if (is_outlier_[i]) continue;
        // The difference is rounded to f64, and then the largest of them up to f32.
        const double error = std::abs(values_[i] - static_cast<double>(decoded_[i]));
        const Quad exact = Quad{values_[i]} - Quad{decoded_[i]};
        expect(error <= static_cast<double>(bound), "values lie within their block's bound");
        expect((exact < 0 ? -exact : exact) <= Quad{bound} * Quad{1 + 0x1p-52}, "and so does the exact difference");
        most = std::max(most, error);
      }
      expect(bound == rounded_up(most), "a block's bound is the least f32 that holds");
    }
  }

  double error_of(std::uint64_t i) const { return is_outlier_[i] ? 0 : values_[i] - static_cast<double>(decoded_[i]); }

  void check_sums() {
    double squares = 0;
    double errors = 0;
    const std::uint64_t size = raw_.block_elements();
    for (std::uint64_t begin = 0; begin < encoded_.count(); begin += size) {
      std::array<double, 8> square{};
      std::array<double, 8> error{};
      for (std::uint64_t i = begin; i < std::min(begin + size, encoded_.count()); ++i) {
        if (!is_finite(i)) continue;
        square[(i - begin) % 8] += values_[i] * values_[i];
        error[(i - begin) % 8] += error_of(i) * error_of(i);
      }
      squares += total(square);
      errors += total(error);
    }
    expect(raw_.sum_squares() == squares && raw_.sum_squared_error() == errors, "the sums have section 17's bits");
    expect(
        encoded_.written.statistics.sum_squares == squares && encoded_.written.statistics.sum_squared_error == errors,
        "the writer returns the sums that it wrote");
  }

  // Plane statistics: outlier count, excess kurtosis, entropy of the codes.
  void check_statistics() {
    const RawPlane* const plane = raw_.find(kRawStatistics);
    if (plane == nullptr) return;  // Told by check_planes().
    expect(plane->row_entries == 3 && plane->bits == 64, "statistics are three f64");
    const std::byte* const stored = raw_.bytes_of(kRawStatistics);
    const TensorStatistics& told = encoded_.written.statistics;
    expect(load<double>(stored, 0) == static_cast<double>(outliers_.size()) && told.outlier_count == outliers_.size(),
           "the count of outliers is right");
    expect(load<double>(stored, 1) == told.excess_kurtosis && load<double>(stored, 2) == told.code_entropy_bits,
           "the writer returns the statistics that it wrote");
    check_kurtosis(told.excess_kurtosis);
    check_entropy(told.code_entropy_bits);
  }

  // In two passes of long double; the values' common scale is taken out, so that nothing underflows here.
  void check_kurtosis(double told) {
    long double largest = 0;
    for (std::uint64_t i = 0; i < encoded_.count(); ++i) {
      if (is_finite(i)) largest = std::max(largest, std::abs(static_cast<long double>(values_[i])));
    }
    long double mean = 0;
    long double count = 0;
    for (std::uint64_t i = 0; i < encoded_.count(); ++i) {
      if (!is_finite(i) || largest == 0) continue;
      mean += values_[i] / largest;
      ++count;
    }
    mean = count == 0 ? 0 : mean / count;
    long double second = 0;
    long double fourth = 0;
    for (std::uint64_t i = 0; i < encoded_.count(); ++i) {
      if (!is_finite(i) || largest == 0) continue;
      const long double square = (values_[i] / largest - mean) * (values_[i] / largest - mean);
      second += square;
      fourth += square * square;
    }
    const bool equal = !(second > count * mean * mean * 0x1p-39L);  // Twice the encoder's own bound.
    if (count == 0 || second == 0 || equal || static_cast<double>(largest) < 0x1p-200) {
      expect(std::isfinite(told) && (second > 0 || told == 0), "the kurtosis of equal values is 0");
      return;
    }
    const long double variance = second / count;
    const long double kurtosis = fourth / count / (variance * variance) - 3;
    expect(std::abs(told - kurtosis) <= 1e-7L * (3 + std::abs(kurtosis)), "the kurtosis is right");
  }

  void check_entropy(double told) {
    std::map<std::uint32_t, std::uint64_t> counts;
    for (std::uint64_t i = 0; i < encoded_.count(); ++i) ++counts[raw_.code(i)];
    long double entropy = 0;
    for (const auto& [code, times] : counts) {
      const long double p = static_cast<long double>(times) / static_cast<long double>(encoded_.count());
      entropy -= p * std::log2(p);
    }
    expect(std::abs(told - entropy) <= 1e-12L, "the entropy of the codes is right");
  }

  const EncodedTensor& encoded_;
  const CodebookOptions& options_;
  RawTensor raw_;
  std::vector<RawOutlier> outliers_;
  std::vector<float> decoded_;
  std::vector<bool> is_outlier_;
  std::vector<double> values_;
  std::vector<float> entries_;
  std::vector<float> midpoints_;
  std::map<std::string, std::uint64_t> broken_;
  std::vector<std::string> lines_;
};

}  // namespace

std::vector<std::string> broken_promises(const EncodedTensor& encoded) { return Inspection(encoded).run(); }

}  // namespace cdna::test
