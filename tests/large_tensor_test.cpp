// A tensor of more than 2^31 elements through the codebook encoder, in memory that does not grow with it.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "cdna/reader.hpp"
#include "codebook_file.hpp"
#include "heap_meter.hpp"

using namespace cdna;
using namespace cdna::test;

namespace {

constexpr std::uint64_t kSeed = 31;
constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

// Rows of a number of elements that no group divides: 2^31 + 98,305 elements in all.
constexpr std::uint64_t kRows = 65'537;
constexpr std::uint64_t kCols = 32'769;
constexpr std::uint64_t kElements = kRows * kCols;
static_assert(kElements > std::uint64_t{1} << 31 && kElements % 2 == 1);

// Elements repeat after a number that has nothing to do with rows.
class RepeatedNoise {
 public:
  RepeatedNoise() {
    Noise noise(kSeed);
    std::vector<double> values(kMiB + 7);
    for (double& value : values) value = noise.gaussian() * 0.02;
    bytes_ = cdna::test::bytes_of(DType::bf16, values);
  }
  ByteReader reader() const {
    return [this](std::uint64_t offset, std::span<std::byte> out) -> Result<void> {
      while (!out.empty()) {
        const std::uint64_t from = offset % bytes_.size();
        const std::size_t size = std::min<std::size_t>(out.size(), bytes_.size() - from);
        std::memcpy(out.data(), bytes_.data() + from, size);
        out = out.subspan(size);
        offset += size;
      }
      return {};
    };
  }
  double at(std::uint64_t element) const { return float_at(DType::bf16, bytes_.data(), element % (bytes_.size() / 2)); }
  long double sum_squares(std::uint64_t count) const {
    const std::uint64_t period = bytes_.size() / 2;
    long double whole = 0;
    long double rest = 0;
    for (std::uint64_t i = 0; i < period; ++i) {
      const long double square = static_cast<long double>(at(i)) * static_cast<long double>(at(i));
      whole += square;
      if (i < count % period) rest += square;
    }
    return whole * static_cast<long double>(count / period) + rest;
  }

 private:
  Bytes bytes_;
};

// The bytes of a file that lie in some ranges; of the others, their number.
class PartialFile {
 public:
  struct Part {
    std::uint64_t begin;
    std::uint64_t end;
    Bytes bytes;
  };
  explicit PartialFile(const std::vector<std::pair<std::uint64_t, std::uint64_t>>& ranges) {
    for (const auto& [begin, end] : ranges) {
      parts_.push_back({begin, end, {}});
      parts_.back().bytes.reserve(end - begin);
    }
  }
  void append(std::span<const std::byte> bytes) {
    for (Part& part : parts_) {
      const std::uint64_t begin = std::clamp(part.begin, size_, size_ + bytes.size());
      const std::uint64_t end = std::clamp(part.end, size_, size_ + bytes.size());
      const std::span<const std::byte> own = bytes.subspan(begin - size_, end - begin);
      part.bytes.insert(part.bytes.end(), own.begin(), own.end());
    }
    size_ += bytes.size();
  }
  std::uint64_t size() const { return size_; }
  // False where something is missing.
  bool read(std::uint64_t offset, std::span<std::byte> out) const {
    return std::any_of(parts_.begin(), parts_.end(), [&](const Part& part) {
      if (offset < part.begin || offset + out.size() > part.begin + part.bytes.size()) return false;
      std::memcpy(out.data(), part.bytes.data() + (offset - part.begin), out.size());
      return true;
    });
  }

 private:
  std::vector<Part> parts_;
  std::uint64_t size_ = 0;
};

class PartialSink final : public Sink {
 public:
  explicit PartialSink(PartialFile& file) : file_(file) {}
  Result<void> write(std::span<const std::byte> bytes) override {
    file_.append(bytes);
    return {};
  }
  Result<void> commit() override { return {}; }

 private:
  PartialFile& file_;
};

class PartialSource final : public Source {
 public:
  explicit PartialSource(const PartialFile& file) : file_(file) {}
  std::uint64_t size_bytes() const override { return file_.size(); }
  Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    Error missing;
    missing.message = "not kept: " + std::to_string(offset) + ", " + std::to_string(out.size()) + " bytes";
    return file_.read(offset, out) ? Result<void>() : missing;
  }

 private:
  const PartialFile& file_;
};

// SNR in dB of some rows as a reader returns them.
double snr_of_rows(const Tensor& tensor, const RepeatedNoise& noise, std::uint64_t begin, std::uint64_t end) {
  std::vector<float> rows((end - begin) * kCols);
  const Result<void> read = tensor.read_rows(begin, end, DType::f32, std::as_writable_bytes(std::span(rows)));
  INFO((read ? std::string() : read.error().describe()));
  REQUIRE(read.has_value());
  double squares = 0;
  double errors = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const double value = noise.at(begin * kCols + i);
    squares += value * value;
    errors += (value - static_cast<double>(rows[i])) * (value - static_cast<double>(rows[i]));
  }
  return 10 * std::log10(squares / errors);
}

}  // namespace

TEST_CASE("large tensor: 2^31 + 98,305 elements are encoded as well as few, in bounded memory") {
  constexpr std::uint64_t kRowBytes = (kCols + 1) / 2;
  constexpr std::uint64_t kCodesBegin = 4096;
  constexpr std::uint64_t kCodesEnd = kCodesBegin + kRows * kRowBytes;
  constexpr std::uint64_t kAt31 = (std::uint64_t{1} << 31) / kCols;  // The row with element 2^31.
  constexpr std::uint64_t kAt30 = kAt31 / 2;                         // With byte 2^31 of the source.
  const auto around = [](std::uint64_t row) {
    return std::pair{kCodesBegin + row * kRowBytes - std::min(row * kRowBytes, 2 * kMiB),
                     kCodesBegin + row * kRowBytes + 2 * kMiB};
  };
  const RepeatedNoise noise;
  // Everything behind the codes is kept: 67 MB of group scales.
  PartialFile file({{0, kCodesBegin + 2 * kMiB}, around(kAt30), {around(kAt31).first, kCodesEnd + 70 * kMiB}});
  const HeapMeter meter;
  {
    Writer writer = must(Writer::create(std::make_unique<PartialSink>(file), {4096, 2, nullptr}));
    const CodebookOptions options = must(parse_preset("cb4g32")).codebook;
    const TensorSpec spec{"x", DType::bf16, {kRows, kCols}, Role::matrix, Codec::raw};
    const TensorStatistics known = writer.written(must(writer.add_codebook(spec, options, noise.reader()))).statistics;
    must(writer.finish());
    // 2^31 sums in f64, a few thousand terms each: far below 1e-9.
    const long double squares = noise.sum_squares(kElements);
    CHECK(std::abs(static_cast<long double>(known.sum_squares) / squares - 1) < 1e-9L);
    CHECK(known.snr_db() > 21.5);
    CHECK(known.snr_db() < 23.5);
    CHECK(known.outlier_count == 0);
    std::printf("%.3f dB, %.3f bits of entropy, kurtosis %.5f\n", known.snr_db(), known.code_entropy_bits,
                known.excess_kurtosis);
  }
  std::printf("%llu bytes of file, %llu of heap at most\n", static_cast<unsigned long long>(file.size()),
              static_cast<unsigned long long>(meter.peak_bytes()));
  // For 2 threads: 4 blocks of 1 MiB of codes, 4 MiB of source for each thread, 12 MiB to fit, and up to 32 MiB of
  // later planes, in a buffer that has half as much again while it grows. The source is 4 GiB.
  CHECK(meter.peak_bytes() < 80 * kMiB);
  const std::uint64_t planes = kRows * (kRowBytes + 4 + (kCols + 31) / 32);
  CHECK(file.size() > planes);
  CHECK(file.size() < planes + 256 * 1024);

  const Reader reader = must(Reader::open(std::make_unique<PartialSource>(file)));
  const Tensor tensor = *reader.find("x");
  CHECK(tensor.rows() == kRows);
  for (const auto& [begin, end] : {std::pair<std::uint64_t, std::uint64_t>{0, 3},
                                   {kAt30 - 1, kAt30 + 2},
                                   {kAt31 - 1, kAt31 + 2},
                                   {kRows - 1, kRows}}) {
    const double snr = snr_of_rows(tensor, noise, begin, end);
    INFO("rows " << begin << " to " << end << ": " << snr << " dB");
    CHECK(snr > 21.5);
  }
}
