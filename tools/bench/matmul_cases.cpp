// Sizes, names, and turns.
#include "tools/bench/matmul_cases.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <thread>

#include "cdna/preset.hpp"

namespace cdna::tools::bench {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kRowMultiple = 64;

std::uint64_t system_figure(int name) { return static_cast<std::uint64_t>(std::max(0L, ::sysconf(name))); }

std::uint64_t bytes_beyond_cache() {
  const std::uint64_t memory = system_figure(_SC_PHYS_PAGES) * system_figure(_SC_PAGESIZE);
  std::uint64_t cache = 0;
#ifdef _SC_LEVEL3_CACHE_SIZE
  cache = system_figure(_SC_LEVEL3_CACHE_SIZE);
#endif
  return std::min(std::max(2 * cache, 256 * kMiB), memory / 4);
}

// Per weight, in the first plane.
std::uint64_t bits_of(const MatrixFile& matrix) {
  const Preset preset = require(parse_preset(matrix.preset));
  if (preset.method != Preset::Method::codebook) return cdna::bits_of(matrix.dtype);
  return static_cast<std::uint64_t>(std::bit_width(preset.codebook.entries - 1));
}

}  // namespace

MatmulSizes sizes_for(std::uint64_t large_bytes) {
  const std::uint64_t standard = bytes_beyond_cache();
  MatmulSizes sizes;
  sizes.large_bytes = large_bytes == 0 ? standard : large_bytes;
  sizes.small_bytes = std::min(4 * kMiB, sizes.large_bytes);
  sizes.codec_bytes = std::min(64 * kMiB, sizes.large_bytes);
  sizes.gemm_side = 64;
  while (sizes.gemm_side < 4096 && 4 * sizes.gemm_side * sizes.gemm_side <= sizes.large_bytes) sizes.gemm_side *= 2;
  sizes.have_goals = sizes.large_bytes >= standard;
  return sizes;
}

bool MatmulRun::wants(std::string_view name) const {
  return options.cases.empty() || std::any_of(options.cases.begin(), options.cases.end(),
                                              [name](const std::string& begin) { return name.starts_with(begin); });
}

bool MatmulRun::wants_some(std::string_view beginning) const {
  return wants(beginning) ||
         std::any_of(options.cases.begin(), options.cases.end(),
                     [beginning](const std::string& begin) { return begin.starts_with(beginning); });
}

std::vector<unsigned> MatmulRun::threads() const {
  return std::thread::hardware_concurrency() > 1 ? std::vector<unsigned>{1, 2} : std::vector<unsigned>{1};
}

std::optional<Goal> MatmulRun::at_least(double limit, Goal::Of of) const {
  if (!sizes.have_goals || !options.file.empty()) return std::nullopt;
  return Goal{of, Goal::Bound::min, limit};
}

std::uint64_t MatmulSubject::bytes() const {
  const PlaneInfo plane = tensor.plane(0);
  return plane.rows * ((plane.row_entries * plane.bits + 7) / 8);
}

bool MatmulSubject::is_raw() const {
  return !reader.source().mapping().empty() && tensor.plane(0).stored_bytes == bytes();
}

Tensor require_tensor(const Reader& reader, std::string_view name) {
  if (const std::optional<Tensor> tensor = reader.find(name)) return *tensor;
  Error error;
  error.code = Code::bad_argument;
  error.message = "there is no such tensor";
  error.file = reader.source().name();
  error.item = name;
  throw Failure(std::move(error));
}

MatmulSubject open_subject(std::string label, const std::string& path, std::string_view tensor, bool beyond_cache) {
  Reader reader = require(Reader::open(path));
  const Tensor found = require_tensor(reader, tensor);
  return {std::move(label), std::move(reader), found, beyond_cache};
}

MatmulSubject make_subject(const MatmulRun& run, MatrixFile matrix, std::uint64_t bytes, const std::string& name) {
  const std::uint64_t rows = bytes * 8 / bits_of(matrix) / matrix.cols;
  matrix.rows = std::max<std::uint64_t>(1, rows / kRowMultiple) * kRowMultiple;
  write_matrix(matrix, run.scratch.path(name), run.stop);
  return open_subject(matrix.preset, run.scratch.path(name), kMatrixName, bytes >= run.sizes.large_bytes);
}

std::size_t Contest::add(double amount, std::function<void()> work, std::function<void()> after) {
  measurements_.push_back([=, passes = passes_] {
    const double seconds = seconds_of([&] {
      for (std::uint64_t i = 0; i < passes; ++i) work();
    });
    if (after) after();
    return amount * static_cast<double>(passes) / seconds / 1e9;
  });
  return measurements_.size() - 1;
}

void Contest::run() { samples_ = in_turns(measurements_, &stop_); }

Samples Contest::result(std::size_t number, double factor) const {
  const Samples& samples = samples_[number];
  return {factor * samples.min, factor * samples.median, factor * samples.max};
}

double rounded(double figure) { return std::stod(fmt::format("{:.4g}", figure)); }

std::uint64_t passes_over(std::uint64_t bytes) {
  return std::clamp<std::uint64_t>(256 * kMiB / std::max<std::uint64_t>(1, bytes), 1, 64);
}

}  // namespace cdna::tools::bench
