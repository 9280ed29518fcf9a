// How much of a mapped file a product leaves in memory, and has there meanwhile.
#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "cdna/matmul.hpp"
#include "matmul_reference.hpp"
#include "temporary_folder.hpp"
#include "tensor_file.hpp"

using namespace cdna;
using namespace cdna::test;

namespace {

constexpr std::uint64_t kSeed = 64;
constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kRowCount = 8192;
constexpr std::uint64_t kColCount = 8192;  // 64 MiB of 8-bit codes, in blocks of 1 MiB.

// A line of /proc/self/status, in bytes.
std::uint64_t status_bytes(const std::string& name) {
  std::ifstream stream("/proc/self/status");
  for (std::string line; std::getline(stream, line);) {
    if (line.starts_with(name + ":")) return std::strtoull(line.c_str() + name.size() + 1, nullptr, 10) * 1024;
  }
  throw std::runtime_error("no " + name + " in /proc/self/status");
}

// Pages of files: RssShmem where the folder is in memory.
std::uint64_t file_pages() { return status_bytes("RssFile") + status_bytes("RssShmem"); }

// The most that `bytes` gives while a call runs, sampled.
class PeakSampler {
 public:
  explicit PeakSampler(std::uint64_t (*bytes)())
      : thread_([this, bytes] {
          while (!stop_.load()) peak_ = std::max(peak_, bytes());
        }) {}
  std::uint64_t stop() {
    stop_.store(true);
    thread_.join();
    return peak_;
  }

 private:
  std::atomic<bool> stop_{false};
  std::uint64_t peak_ = 0;
  std::thread thread_;
};

// 64 MiB of codes on disk, raw.
class LargeFile {
 public:
  LargeFile() : path_(folder_ / "w.cdna") {
    CodebookShape shape;
    shape.rows = 128;
    shape.cols = kColCount;
    CodebookPlanes planes = random_planes(shape, kSeed);
    planes.rows = kRowCount;
    const std::vector<std::uint16_t> codes = planes.codes;
    const std::vector<float> scales = planes.row_scales;
    for (std::uint64_t row = 128; row < kRowCount; row += 128) {
      planes.codes.insert(planes.codes.end(), codes.begin(), codes.end());
      planes.row_scales.insert(planes.row_scales.end(), scales.begin(), scales.end());
    }
    save_file(path_, file_of(planes, {128, 1, Codec::raw}));
  }
  Reader open() const {
    OpenOptions options;
    options.io = Io::mmap;
    return must(Reader::open(path_, options));
  }

 private:
  TemporaryFolder folder_;
  std::string path_;
};

// What the product leaves in memory, and what it ever had there, of a file that a new Reader has just opened.
void check_residence(const LargeFile& file, const Operand& x, unsigned threads, std::uint64_t limit,
                     const std::vector<float>& expected) {
  const Reader reader = file.open();
  const Tensor tensor = reader.find("w").value();
  must_do(tensor.read_rows(0, 0, DType::f32, {}));  // The index.
  Workers workers(threads);
  MatmulOptions options;
  options.workers = &workers;
  options.resident_bytes_max = limit;
  const std::uint64_t before = file_pages();
  PeakSampler sampler(file_pages);
  const std::vector<float> y = multiply(tensor, x, options);
  const std::uint64_t peak = sampler.stop();
  const std::uint64_t after = file_pages();
  INFO(threads << " threads, limit " << limit << ": from " << before << " to " << after << ", peak " << peak);
  CHECK(difference(expected, y) == "");
  // Blocks of each thread that are in use (three at a time for tiles) or being brought in, and what the kernel maps
  // around a page.
  const std::uint64_t allowed = limit + threads * (x.rows == 1 ? 3 : 6) * kMiB + 2 * kMiB;
  CHECK(after - std::min(after, before) <= allowed);
  CHECK(peak - std::min(peak, before) <= allowed);
}

}  // namespace

TEST_CASE("matmul memory: pages that were used go where a limit is set, and stay without one") {
  INFO("seed " << kSeed);
  const LargeFile file;
  for (const std::uint64_t m : {std::uint64_t{1}, std::uint64_t{8}}) {  // Block by block, and several at a time.
    const Operand x = random_operand(m, kColCount, kSeed);
    const Reader whole = file.open();
    const std::uint64_t before_all = file_pages();
    const std::vector<float> expected = multiply(whole.find("w").value(), x);
    CHECK(file_pages() - before_all >= 60 * kMiB);
    for (const unsigned threads : {1U, 2U}) {
      for (const std::uint64_t limit : {std::uint64_t{0}, 2 * kMiB, 8 * kMiB, 32 * kMiB})
        check_residence(file, x, threads, limit, expected);
    }
  }
}

TEST_CASE("matmul memory: private memory stays within the scratch budget, whatever the tensor's size") {
  INFO("seed " << kSeed);
  const LargeFile file;
  const Reader reader = file.open();
  const Tensor tensor = reader.find("w").value();
  const Operand x = random_operand(8, kColCount, kSeed);
  std::vector<float> y(8 * kRowCount);
  for (const std::uint64_t budget : {4 * kMiB, 16 * kMiB}) {
    MatmulOptions options;
    options.scratch_bytes_max = budget;
    options.resident_bytes_max = kMiB;
    REQUIRE(must(describe(tensor, 8, options)).scratch_bytes <= budget);
    const auto anonymous = [] { return status_bytes("RssAnon"); };
    const std::uint64_t before = anonymous();
    PeakSampler sampler(+anonymous);
    must_do(matmul(tensor, row_major(x.values.data(), 8, kColCount), row_major(y.data(), 8, kRowCount), options));
    const std::uint64_t peak = sampler.stop();
    INFO("budget " << budget << ": from " << before << ", peak " << peak);
    CHECK(peak - std::min(peak, before) <= budget + 2 * kMiB);  // The sampling thread and the allocator.
  }
}
