// The groups of cases one after the other.
#include "tools/bench/matmul_bench.hpp"

#include <array>
#include <optional>
#include <string_view>

#include "tools/bench/matmul_cases.hpp"
#include "tools/bench/matmul_memory.hpp"
#include "tools/bench/openblas.hpp"
#include "tools/interrupt.hpp"

namespace cdna::tools::bench {
namespace {

constexpr std::array<std::string_view, 5> kGroups{"gemv.", "gemm.", "codec.", "first_pass", "memory."};

Result<void> check_cases(const MatmulRun& run) {
  for (const std::string& name : run.options.cases) {
    bool known = false;
    for (const std::string_view group : kGroups) known = known || group.starts_with(name) || name.starts_with(group);
    if (known) continue;
    Error error;
    error.code = Code::bad_argument;
    error.message = "no case begins with " + escape(name);
    return error;
  }
  return {};
}

void note_openblas(Report& report) {
  const OpenBlas* const blas = OpenBlas::find();
  report.note(blas != nullptr ? blas->description()
                              : "reference not available: libopenblas.so.0 (Debian: libopenblas0-pthread)");
}

void measure_synthetic(const MatmulRun& run) {
  run_gemv(run);
  run_gemm(run);
  run_codecs(run);
  run_first_pass(run);
  run_memory(run);
}

MatmulSubject open_tensor(const MatmulRun& run) {
  MatmulSubject subject = open_subject("tensor", run.options.file, run.options.tensor, false);
  subject.beyond_cache = subject.bytes() >= run.sizes.large_bytes;
  return subject;
}

void measure_tensor(const MatmulRun& run, const MatmulSubject& subject) {
  run_gemv(run, subject);
  run_gemm(run, subject);
  run_first_pass(run, subject);
}

}  // namespace

Result<void> run_matmul(const MatmulBenchOptions& options, Report& report, const std::atomic<bool>& stop) {
  const Scratch scratch;
  const MatmulRun run{options, sizes_for(options.bytes), report, stop, scratch};
  if (auto known = check_cases(run); !known) return known;
  std::optional<MatmulSubject> subject;
  if (!options.file.empty()) subject = open_tensor(run);
  report.begin();
  note_openblas(report);
  if (subject)
    measure_tensor(run, *subject);
  else
    measure_synthetic(run);
  return {};
}

}  // namespace cdna::tools::bench
