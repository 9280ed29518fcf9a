// Distinct rows once, then copies of them.
#include "tools/bench/repeated_weights.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <span>

#include "cdna/preset.hpp"
#include "tools/bench/measure.hpp"
#include "tools/bench/weight_sources.hpp"
#include "tools/parallel.hpp"

namespace cdna::tools::bench {
namespace {

constexpr std::uint64_t kDistinctRows = 1024;

std::vector<std::byte> bytes_of(std::span<const float> values) {
  std::vector<std::byte> bytes(values.size_bytes());
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

// Finite values, rounded to nearest, ties to even.
std::vector<std::byte> halved(std::span<const float> values) {
  std::vector<std::byte> bytes(2 * values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(values[i]);
    const auto half = static_cast<std::uint16_t>((bits + 0x7FFFU + (bits >> 16 & 1U)) >> 16);
    std::memcpy(&bytes[2 * i], &half, sizeof half);
  }
  return bytes;
}

TensorSpec spec_of(const MatrixFile& matrix, Preset::Method method) {
  TensorSpec spec;
  spec.name = kMatrixName;
  spec.dtype = matrix.dtype;
  spec.shape = {matrix.rows, matrix.cols};
  spec.role = matrix.small_blocks ? Role::embedding : Role::matrix;
  spec.codec = matrix.codec;
  if (method == Preset::Method::exact_z) {
    spec.codec = Codec::zstd;
    spec.filter = Filter::byte_planes;
  }
  return spec;
}

}  // namespace

RepeatedWeights::RepeatedWeights(DType dtype, std::uint64_t cols, unsigned threads) {
  WeightOptions options;
  options.rows = kDistinctRows;
  options.cols = cols;
  const std::vector<float> values = make_weights(Distribution::gaussian, options, threads);
  bytes_ = std::make_shared<const std::vector<std::byte>>(dtype == DType::bf16 ? halved(values) : bytes_of(values));
}

ByteReader RepeatedWeights::reader() const {
  return [bytes = bytes_](std::uint64_t offset, std::span<std::byte> out) -> Result<void> {
    while (!out.empty()) {
      const std::uint64_t at = offset % bytes->size();
      const std::size_t size = std::min<std::size_t>(out.size(), bytes->size() - at);
      std::memcpy(out.data(), bytes->data() + at, size);
      offset += size;
      out = out.subspan(size);
    }
    return {};
  };
}

void write_matrix(const MatrixFile& matrix, const std::string& path, const std::atomic<bool>& stop) {
  const Preset preset = require(parse_preset(matrix.preset));
  const ByteReader weights = RepeatedWeights(matrix.dtype, matrix.cols, 0).reader();
  WriterOptions options;
  options.threads = 0;
  options.stop = &stop;
  Writer writer = require(Writer::create(require(create_file(path)), options));
  const TensorSpec spec = spec_of(matrix, preset.method);
  require(preset.method == Preset::Method::codebook ? writer.add_codebook(spec, preset.codebook, weights)
                                                    : writer.add_exact(spec, weights));
  require(writer.finish());
}

}  // namespace cdna::tools::bench
