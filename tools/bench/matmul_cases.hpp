// The groups of cases of `cdna bench matmul`, and what they share.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cdna/reader.hpp"
#include "tools/bench/matmul_bench.hpp"
#include "tools/bench/measure.hpp"
#include "tools/bench/repeated_weights.hpp"
#include "tools/bench/report.hpp"
#include "tools/bench/sample_models.hpp"

namespace cdna::tools::bench {

struct MatmulSizes {
  std::uint64_t large_bytes = 0;  // Of codes, beyond the cache.
  std::uint64_t small_bytes = 0;  // Of codes, in it.
  std::uint64_t codec_bytes = 0;  // Decoded, of compressed tensors.
  std::uint64_t gemm_side = 0;    // Rows and columns.
  bool have_goals = false;
};

// 0: twice the last-level cache that the system reports, at least 256 MiB, at most a quarter of the memory.
MatmulSizes sizes_for(std::uint64_t large_bytes);

struct MatmulRun {
  const MatmulBenchOptions& options;
  MatmulSizes sizes;
  Report& report;
  const std::atomic<bool>& stop;
  const Scratch& scratch;

  bool wants(std::string_view name) const;            // A case.
  bool wants_some(std::string_view beginning) const;  // Of the cases whose names begin so.
  std::vector<unsigned> threads() const;              // 1, and 2 where there are 2 cores.
  std::optional<Goal> at_least(double limit, Goal::Of of = Goal::Of::ratio) const;
};

// A tensor that is multiplied with, in an open file.
struct MatmulSubject {
  std::string label;  // "cb8" in "gemv.cb8.f32.T".
  Reader reader;
  Tensor tensor;
  bool beyond_cache = false;

  std::uint64_t weights() const { return tensor.element_count(); }
  std::uint64_t bytes() const;  // Decoded, of the first plane: codes, or values.
  bool is_raw() const;          // In the mapping as it is multiplied with.
};

// Throws Failure: bad_argument, there is none of that name.
Tensor require_tensor(const Reader& reader, std::string_view name);

MatmulSubject open_subject(std::string label, const std::string& path, std::string_view tensor, bool beyond_cache);
// Written to `name` in the scratch folder. Rows are a multiple of 64 with about `bytes` of codes.
MatmulSubject make_subject(const MatmulRun& run, MatrixFile matrix, std::uint64_t bytes, const std::string& name);

// Works that take turns. Figures are billions of `amount` per second.
class Contest {
 public:
  // Each figure is of `passes` times the work.
  Contest(const std::atomic<bool>& stop, std::uint64_t passes) : stop_(stop), passes_(passes) {}

  // `after`, if any, is not timed. Returns the work's number.
  std::size_t add(double amount, std::function<void()> work, std::function<void()> after = {});
  void run();
  // The figures, as if the amount were `factor` times as much.
  Samples result(std::size_t number, double factor = 1) const;

 private:
  const std::atomic<bool>& stop_;
  std::uint64_t passes_;
  std::vector<Measurement> measurements_;
  std::vector<Samples> samples_;
};

// How often 256 MiB hold `bytes`, 1 to 64: so much work is measured at a time.
std::uint64_t passes_over(std::uint64_t bytes);

// To four digits, for parameters.
double rounded(double figure);

// Each adds the rows of its cases. Throws Failure.
void run_gemv(const MatmulRun& run);
void run_gemm(const MatmulRun& run);
void run_codecs(const MatmulRun& run);
void run_first_pass(const MatmulRun& run);
// The same for a tensor of the user's.
void run_gemv(const MatmulRun& run, const MatmulSubject& subject);
void run_gemm(const MatmulRun& run, const MatmulSubject& subject);
void run_first_pass(const MatmulRun& run, const MatmulSubject& subject);

}  // namespace cdna::tools::bench
