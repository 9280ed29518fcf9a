// Parent and child. A fresh process for each figure: what an allocator keeps from before would hide what a call takes.
#include "tools/bench/matmul_memory.hpp"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "tools/bench/child_process.hpp"
#include "tools/bench/product.hpp"
#include "tools/memory_sampler.hpp"

namespace cdna::tools::bench {
namespace {

constexpr std::uint64_t kRowsOfX = 8;
constexpr double kMiB = 1024 * 1024;

struct MemoryCase {
  std::uint64_t megabytes;  // Of the dense f32 matrix.
  std::uint64_t side;
  double goal;
};
constexpr std::array<MemoryCase, 3> kCases{{{64, 4096, 20}, {256, 8192, 60}, {1024, 16384, 200}}};

struct Growth {
  double private_bytes = 0;
  double file_bytes = 0;
};

Growth growth_of_child(const MatmulRun& run, const std::string& path, std::uint64_t data_bytes_max) {
  std::istringstream output(output_of(
      {run.options.program, "bench", "matmul", "--memory-of", path, "--data-max", std::to_string(data_bytes_max)},
      "LC_ALL=C"));
  Growth growth;
  if (!(output >> growth.private_bytes >> growth.file_bytes))
    throw std::runtime_error("the process that multiplies printed no figures");
  growth.private_bytes = std::max(growth.private_bytes, 4096.0);  // Not even a page would be a ratio of infinity.
  return growth;
}

// Whether the same call is done within 1 / goal of the dense matrix.
bool fits_within(const MatmulRun& run, const std::string& path, std::uint64_t bytes) {
  try {
    growth_of_child(run, path, bytes);
    return true;
  } catch (const std::runtime_error&) {
    return false;
  }
}

void measure(const MatmulRun& run, const MemoryCase& of, const std::string& name) {
  const std::string path = run.scratch.path("memory");
  MatrixFile matrix{"cb8", of.side, of.side, DType::f32};
  matrix.small_blocks = true;
  write_matrix(matrix, path, run.stop);
  const auto dense = static_cast<double>(4 * of.side * of.side);
  Growth last;
  const Measurement ratio = [&] {
    last = growth_of_child(run, path, 0);
    return dense / last.private_bytes;
  };
  Row row;
  row.name = name;
  row.value = in_turns({ratio}, &run.stop)[0];
  const double limit = dense / of.goal;
  row.params = {{"dense_mib", rounded(dense / kMiB)},
                {"private_mib", rounded(dense / row.value.median / kMiB)},
                {"file_backed_mib", rounded(last.file_bytes / kMiB)},
                {"x_rows", kRowsOfX},
                {"rlimit_data_mib", rounded(limit / kMiB)},
                {"done_within_it", fits_within(run, path, static_cast<std::uint64_t>(limit))}};
  row.unit = "x";
  row.goal = run.at_least(of.goal, Goal::Of::value);
  run.report.add(std::move(row));
  std::filesystem::remove(path);
}

// VmData: what RLIMIT_DATA counts.
std::uint64_t data_bytes() {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("VmData:")) return 1024 * std::stoull(line.substr(7));
  }
  throw std::runtime_error("/proc/self/status does not say how much memory is in use");
}

void limit_data_to(std::uint64_t bytes) {
  const rlimit limit{bytes, bytes};
  if (::setrlimit(RLIMIT_DATA, &limit) != 0) throw std::runtime_error("RLIMIT_DATA cannot be set");
}

}  // namespace

void run_memory(const MatmulRun& run) {
  for (const MemoryCase& of : kCases) {
    const std::string name = fmt::format("memory.{}", of.megabytes);
    if (run.wants(name)) measure(run, of, name);
  }
}

void print_memory(const std::string& file, std::uint64_t data_bytes_max) {
  OpenOptions options;
  options.io = Io::mmap;
  options.trust = Trust::zero_copy;
  const Reader reader = require(Reader::open(file, options));
  Workers workers(1);
  Product product(require_tensor(reader, kMatrixName), kRowsOfX, Math::f32, Orientation::linear, workers);
  MemorySampler sampler;
  if (data_bytes_max != 0) limit_data_to(data_bytes() + data_bytes_max);
  product.run();
  fmt::print("{} {}\n", sampler.peak_private_growth(), sampler.peak_file_backed_growth());
}

}  // namespace cdna::tools::bench
