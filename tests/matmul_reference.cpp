// Decoding one value at a time, products in f64, and the bounds of cdna/matmul.hpp.
#include "matmul_reference.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <sstream>
#include <stdexcept>

#include "tiny_floats.hpp"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CDNA_TEST_HAS_ASAN
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define CDNA_TEST_HAS_ASAN
#endif

namespace cdna::test {
namespace {

constexpr double kUnit = 0x1p-24;  // u of the header.
constexpr std::uint64_t kScratchBytes = std::uint64_t{512} << 20;
constexpr std::byte kPoison{0xA5};
constexpr std::size_t kPoisonBytes = 256;
#ifdef CDNA_TEST_HAS_ASAN
constexpr std::size_t kPoisonBytesAfter = 0;  // What reads or writes past the end is found there.
#else
constexpr std::size_t kPoisonBytesAfter = kPoisonBytes;
#endif

bool same_value(float a, float b) {
  return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b) || (std::isnan(a) && std::isnan(b));
}

void check_against_read_rows(const Tensor& tensor, const std::vector<float>& values) {
  std::vector<float> read(values.size());
  must_do(tensor.read_rows(0, tensor.rows(), DType::f32, std::as_writable_bytes(std::span(read))));
  if (!std::equal(read.begin(), read.end(), values.begin(), same_value))
    throw std::runtime_error("the reference does not decode what read_rows() gives");
}

// ---- cdna.exact ----

Weights exact_weights(const Tensor& tensor) {
  Weights w{tensor.rows(), tensor.cols(), {}, {}, {}, 0};
  const std::uint64_t row_bytes = tensor.row_bytes(tensor.dtype());
  Bytes elements(w.rows * row_bytes);
  must_do(tensor.read_rows(0, w.rows, tensor.dtype(), elements));
  for (std::uint64_t row = 0; row < w.rows; ++row) {
    for (std::uint64_t col = 0; col < w.cols; ++col)
      w.values.push_back(static_cast<float>(value_at(tensor.dtype(), elements.data() + row * row_bytes, col)));
  }
  for (const float value : w.values) w.magnitudes.push_back(std::abs(static_cast<double>(value)));
  if (is_float(tensor.dtype())) check_against_read_rows(tensor, w.values);
  return w;
}

// ---- cdna.codebook ----

// The one plane that no public call returns; it is small, and raw in all files here.
std::vector<float> scale_table_of(const Reader& reader, const Tensor& tensor) {
  for (std::uint32_t i = 0; i < tensor.plane_count(); ++i) {
    const PlaneInfo plane = tensor.plane(i);
    if (plane.role != kRawScaleTable) continue;
    if (plane.codecs != 1) throw std::runtime_error("the scale table is compressed");
    std::vector<float> table(256);
    must_do(reader.source().read_at(plane.offset, std::as_writable_bytes(std::span(table))));
    return table;
  }
  return {};
}

struct CodebookTensor {
  std::span<const float> codebook;
  std::vector<float> scale_table;
  std::uint32_t bits = 0;
  std::uint32_t group = 0;
  DType group_dtype = DType::none;
  DType outlier_dtype = DType::none;
  bool has_row_scale = false;
};

CodebookTensor describe_codebook(const Reader& reader, const Tensor& tensor) {
  CodebookTensor known;
  known.codebook = must(tensor.codebook());
  known.scale_table = scale_table_of(reader, tensor);
  for (std::uint32_t i = 0; i < tensor.plane_count(); ++i) {
    const PlaneInfo plane = tensor.plane(i);
    if (plane.role == kRawCodes) known.bits = plane.bits;
    if (plane.role == kRawRowScale) known.has_row_scale = true;
    if (plane.role == kRawGroupScale) known.group = plane.group, known.group_dtype = plane.dtype;
    if (plane.role == kRawOutliers) known.outlier_dtype = plane.dtype;
  }
  return known;
}

float product_of_scales(float a, float b) {
  const float value = a * b;
  return std::isnan(value) ? std::bit_cast<float>(0x7FC00000U) : value;
}

std::uint32_t code_at(const std::byte* row, std::uint32_t bits, std::uint64_t index) {
  std::uint32_t code = 0;
  for (std::uint32_t i = 0; i < bits; ++i) {
    const std::uint64_t bit = index * bits + i;
    code |= (std::to_integer<std::uint32_t>(row[bit / 8]) >> (bit % 8) & 1U) << i;
  }
  return code;
}

// 1 where there are no scales.
float scale_at(const CodebookTensor& known, const Block& block, std::uint64_t row, std::uint64_t entry) {
  const float row_scale = known.has_row_scale ? block.row_scales[row] : 1;
  if (known.group == 0) return row_scale;
  const std::uint64_t groups = (block.entry_count + known.group - 1) / known.group;
  const std::uint64_t index = row * groups + entry / known.group;
  const float scale = known.group_dtype == DType::u8
                          ? known.scale_table[load<std::uint8_t>(block.group_scales.data(), index)]
                          : static_cast<float>(float_at(known.group_dtype, block.group_scales.data(), index));
  return known.has_row_scale ? product_of_scales(scale, row_scale) : scale;
}

void add_block(const CodebookTensor& known, const Block& block, Weights& w) {
  const bool scaled = known.has_row_scale || known.group != 0;
  const std::uint64_t row_bytes = block.data.size() / block.row_count;
  for (std::uint64_t row = 0; row < block.row_count; ++row) {
    for (std::uint64_t i = 0; i < block.entry_count; ++i) {
      const std::uint64_t element = (block.row_begin + row) * w.cols + block.entry_begin + i;
      const float entry = known.codebook[code_at(block.data.data() + row * row_bytes, known.bits, i)];
      const float scale = scale_at(known, block, row, i);
      w.values[element] = scaled ? product_of_scales(entry, scale) : entry;
      w.magnitudes[element] = std::abs(static_cast<double>(w.values[element]));
      w.scales[element] = std::abs(static_cast<double>(scale));
    }
  }
  for (std::uint64_t i = 0; i < block.outlier_count; ++i) {
    const auto position = load<std::uint32_t>(block.outlier_positions.data(), i);
    const std::uint64_t row = block.row_begin + position / block.entry_count;
    const std::uint64_t element = row * w.cols + block.entry_begin + position % block.entry_count;
    const auto value = static_cast<float>(float_at(known.outlier_dtype, block.outlier_values.data(), i));
    const double decoded = static_cast<double>(w.values[element]);
    w.magnitudes[element] = std::abs(decoded) + std::abs(static_cast<double>(value) - decoded);
    w.values[element] = value;
  }
}

Weights codebook_weights(const Reader& reader, const Tensor& tensor) {
  const CodebookTensor known = describe_codebook(reader, tensor);
  const std::uint64_t count = tensor.element_count();
  Weights w{tensor.rows(),
            tensor.cols(),
            std::vector<float>(count),
            std::vector<double>(count),
            std::vector<double>(count),
            0};
  for (const float entry : known.codebook) w.entry_max = std::max(w.entry_max, std::abs(static_cast<double>(entry)));
  BlockRange range = must(tensor.blocks());
  for (const Result<Block>& block : range) {
    if (!block) throw std::runtime_error(block.error().describe());
    add_block(known, *block, w);
  }
  check_against_read_rows(tensor, w.values);
  return w;
}

// ---- Bounds ----

// Half of the step in which row `row` of x is rounded to 8 bits, around `col`.
std::vector<double> int8_half_steps(const Operand& x) {
  std::vector<double> steps(x.values.size());
  for (std::uint64_t begin = 0; begin < steps.size();) {
    const std::uint64_t end = std::min((begin / x.cols + 1) * x.cols, begin + 64);
    double largest = 0;
    for (std::uint64_t i = begin; i < end; ++i) largest = std::max(largest, std::abs(static_cast<double>(x.values[i])));
    for (; begin < end; ++begin) steps[begin] = largest / 127 / 2;
  }
  return steps;
}

double relative_bound(Math math, std::uint64_t products) {
  const double count = static_cast<double>(products) + 16;
  switch (math) {
    case Math::f32:
      return count * kUnit;
    case Math::bf16:
      return 0x1p-7 + 0x1p-16 + count * 2 * kUnit;
    default:
      return count * 2 * kUnit;
  }
}

}  // namespace

void must_do(const Result<void>& result) {
  if (!result) throw std::runtime_error(result.error().describe());
}

Weights weights_of(const Reader& reader, const Tensor& tensor) {
  return tensor.encoding() == "cdna.exact" ? exact_weights(tensor) : codebook_weights(reader, tensor);
}

Operand random_operand(std::uint64_t rows, std::uint64_t cols, std::uint64_t seed, DType dtype) {
  Noise noise(seed);
  Operand x{rows, cols, {}};
  double size = 1;
  for (std::uint64_t i = 0; i < rows * cols; ++i) {
    if (i % cols % 64 == 0) size = std::ldexp(1.0, static_cast<int>(noise.below(9)) - 4);
    const double value = noise.gaussian() * size;
    x.values.push_back(static_cast<float>(dtype == DType::f16    ? value_of_f16(f16_of(value))
                                          : dtype == DType::bf16 ? value_of_bf16(bf16_of(value))
                                                                 : value));
  }
  return x;
}

Product product_of(const Weights& w, std::uint64_t row_begin, std::uint64_t row_end, const Operand& x,
                   Orientation orientation, Math math) {
  const bool linear = orientation == Orientation::linear;
  const std::uint64_t depth = linear ? w.cols : row_end - row_begin;
  Product product{x.rows, linear ? row_end - row_begin : w.cols, {}, {}};
  product.values.resize(product.rows * product.cols);
  product.bounds.resize(product.rows * product.cols);
  const double relative = relative_bound(math, depth);
  const double entry_error = w.entry_max / 65534;  // d of the header.
  const std::vector<double> half_steps = math == Math::int8 ? int8_half_steps(x) : std::vector<double>();
  for (std::uint64_t i = 0; i < product.values.size(); ++i) {
    const std::uint64_t x_begin = i / product.cols * x.cols;
    const std::uint64_t j = i % product.cols;
    double sum = 0;
    double magnitude = 0;
    double rounding = 0;
    for (std::uint64_t t = 0; t < depth; ++t) {
      const std::uint64_t element = linear ? (row_begin + j) * w.cols + t : (row_begin + t) * w.cols + j;
      const double factor = static_cast<double>(x.values[x_begin + t]);
      sum += factor * static_cast<double>(w.values[element]);
      magnitude += std::abs(factor) * w.magnitudes[element];
      if (math == Math::int8)
        rounding += half_steps[x_begin + t] * (w.magnitudes[element] + w.scales[element] * entry_error) +
                    std::abs(factor) * w.scales[element] * entry_error;
    }
    product.values[i] = sum;
    product.bounds[i] = rounding + relative * magnitude;
  }
  return product;
}

Product product_of(const Weights& w, const Operand& x, Orientation orientation, Math math) {
  return product_of(w, 0, w.rows, x, orientation, math);
}

std::string excess(const Product& expected, const std::vector<float>& y) {
  if (y.size() != expected.values.size()) return "the result has another size";
  std::size_t count = 0;
  std::size_t worst = 0;
  double worst_ratio = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double error = std::abs(static_cast<double>(y[i]) - expected.values[i]);
    if (error <= expected.bounds[i]) continue;
    ++count;
    const double ratio = std::isnan(error) ? std::numeric_limits<double>::infinity() : error / expected.bounds[i];
    if (ratio > worst_ratio) worst_ratio = ratio, worst = i;
  }
  if (count == 0) return "";
  std::ostringstream text;
  text << count << " of " << y.size() << " are beyond their bounds, the worst at row " << worst / expected.cols
       << ", column " << worst % expected.cols << ": " << y[worst] << " for " << expected.values[worst] << " +- "
       << expected.bounds[worst];
  return text.str();
}

std::string difference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return "the results have different sizes";
  std::size_t count = 0;
  std::size_t first = 0;
  for (std::size_t i = a.size(); i-- > 0;) {
    if (std::bit_cast<std::uint32_t>(a[i]) != std::bit_cast<std::uint32_t>(b[i])) ++count, first = i;
  }
  if (count == 0) return "";
  std::ostringstream text;
  text << count << " of " << a.size() << " differ, first element " << first << ": " << a[first] << " and " << b[first];
  return text.str();
}

// ---- Matrices of the caller's ----

StridedMatrix::StridedMatrix(DType dtype, std::uint64_t rows, std::uint64_t cols, std::int64_t row_stride,
                             std::int64_t col_stride, std::size_t misalignment)
    : dtype_(dtype), rows_(rows), cols_(cols), row_stride_(row_stride), col_stride_(col_stride) {
  const auto size = static_cast<std::int64_t>(bits_of(dtype) / 8);
  std::int64_t first = 0;
  std::int64_t last = 0;
  if (rows != 0 && cols != 0) {
    const std::int64_t down = static_cast<std::int64_t>(rows - 1) * row_stride;
    const std::int64_t right = static_cast<std::int64_t>(cols - 1) * col_stride;
    first = std::min<std::int64_t>(down, 0) + std::min<std::int64_t>(right, 0);
    last = std::max<std::int64_t>(down, 0) + std::max<std::int64_t>(right, 0) + 1;
  }
  base_ = kPoisonBytes + misalignment + static_cast<std::size_t>(-first * size);
  bytes_.assign(base_ + static_cast<std::size_t>(last * size) + kPoisonBytesAfter, kPoison);
}

std::size_t StridedMatrix::offset_of(std::uint64_t row, std::uint64_t col) const {
  const std::int64_t elements =
      static_cast<std::int64_t>(row) * row_stride_ + static_cast<std::int64_t>(col) * col_stride_;
  return base_ + static_cast<std::size_t>(elements * static_cast<std::int64_t>(bits_of(dtype_) / 8));
}

void StridedMatrix::set(std::uint64_t row, std::uint64_t col, float value) {
  std::byte* const to = bytes_.data() + offset_of(row, col);
  if (dtype_ == DType::f32) {
    std::memcpy(to, &value, sizeof value);
  } else {
    const std::uint16_t half =
        dtype_ == DType::f16 ? f16_of(static_cast<double>(value)) : bf16_of(static_cast<double>(value));
    std::memcpy(to, &half, sizeof half);
  }
}

void StridedMatrix::set(const std::vector<float>& values) {
  for (std::uint64_t i = 0; i < values.size(); ++i) set(i / cols_, i % cols_, values[i]);
}

double StridedMatrix::at(std::uint64_t row, std::uint64_t col) const {
  return float_at(dtype_, bytes_.data() + offset_of(row, col), 0);
}

std::vector<float> StridedMatrix::values() const {
  std::vector<float> values;
  values.reserve(rows_ * cols_);
  for (std::uint64_t row = 0; row < rows_; ++row) {
    for (std::uint64_t col = 0; col < cols_; ++col) values.push_back(static_cast<float>(at(row, col)));
  }
  return values;
}

bool StridedMatrix::is_poison_intact() const {
  Bytes others = bytes_;
  const std::uint64_t cols_at_once = col_stride_ == 1 ? std::max<std::uint64_t>(1, cols_) : 1;
  for (std::uint64_t row = 0; row < rows_; ++row) {
    for (std::uint64_t col = 0; col < cols_; col += cols_at_once)
      std::memset(others.data() + offset_of(row, col), static_cast<int>(kPoison), cols_at_once * bits_of(dtype_) / 8);
  }
  return others == Bytes(others.size(), kPoison);
}

ConstMatrix StridedMatrix::input() const {
  return {bytes_.data() + base_, dtype_, rows_, cols_, row_stride_, col_stride_};
}

Matrix StridedMatrix::output() { return {bytes_.data() + base_, dtype_, rows_, cols_, row_stride_, col_stride_}; }

std::vector<float> multiply(std::span<const WeightRows> parts, const Operand& x, const MatmulOptions& options) {
  std::uint64_t cols = 0;
  for (const WeightRows& part : parts)
    cols += options.orientation == Orientation::linear ? part.row_end - part.row_begin : part.tensor.cols();
  StridedMatrix input(DType::f32, x.rows, x.cols);
  input.set(x.values);
  StridedMatrix output(DType::f32, x.rows, cols);
  must_do(matmul(parts, input.input(), output.output(), options));
  if (!output.is_poison_intact()) throw std::runtime_error("bytes around y were written");
  return output.values();
}

std::vector<float> multiply(const Tensor& tensor, const Operand& x, const MatmulOptions& options) {
  const WeightRows part(tensor);
  return multiply({&part, 1}, x, options);
}

std::vector<std::string> faults_of(const Tensor& tensor, const Weights& w, std::uint64_t m, std::uint64_t seed) {
  std::vector<std::string> faults;
  for (const Orientation orientation : {Orientation::linear, Orientation::transposed}) {
    const bool linear = orientation == Orientation::linear;
    const Operand x = random_operand(m, linear ? w.cols : w.rows, seed);
    for (const Math math : {Math::f32, Math::bf16, Math::int8}) {
      if (math == Math::int8 && !(linear && has_int8(tensor))) continue;
      const Product expected = product_of(w, x, orientation, math);
      std::vector<float> first;
      for (const Isa isa : available_isas()) {
        MatmulOptions options;
        options.math = math;
        options.orientation = orientation;
        options.isa = isa;
        options.scratch_bytes_max = kScratchBytes;
        const std::vector<float> y = multiply(tensor, x, options);
        const std::string where = std::string(linear ? "linear" : "transposed") + ", " + std::string(name_of(math)) +
                                  ", " + std::string(name_of(isa)) + ", m " + std::to_string(m) + ", " +
                                  std::to_string(w.rows) + " x " + std::to_string(w.cols) + ": ";
        if (const std::string fault = excess(expected, y); !fault.empty()) faults.push_back(where + fault);
        if (first.empty()) first = y;
        if (math != Math::f32) continue;
        if (const std::string fault = difference(first, y); !fault.empty()) faults.push_back(where + fault);
      }
    }
  }
  return faults;
}

bool has_int8(const Tensor& tensor) {
  if (tensor.encoding() != "cdna.codebook" || tensor.plane(0).bits > 8 || tensor.plane(0).vector != 1) return false;
  for (std::uint32_t i = 0; i < tensor.plane_count(); ++i) {
    const PlaneInfo plane = tensor.plane(i);
    const bool is_extension = plane.role == 8 || (plane.role >= 14 && plane.role <= 17);
    if (is_extension || plane.group == 16) return false;
  }
  return true;
}

std::vector<Isa> available_isas() {
  std::vector<Isa> found;
  std::copy_if(std::begin(kIsas), std::end(kIsas), std::back_inserter(found), is_available);
  return found;
}

}  // namespace cdna::test
