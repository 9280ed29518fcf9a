// gemm.mROWS.MATH: many rows of x, against OpenBLAS and the most that the CPU can do.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cdna/cpu.hpp"
#include "tools/bench/bf16_peak.hpp"
#include "tools/bench/matmul_cases.hpp"
#include "tools/bench/matmul_references.hpp"
#include "tools/bench/openblas.hpp"
#include "tools/bench/product.hpp"

namespace cdna::tools::bench {
namespace {

constexpr std::uint64_t kRowsOfX[] = {16, 64, 256};
constexpr std::uint64_t kPeakRowsOfX = 256;  // Compared with the peak.
constexpr std::uint64_t kPeakRounds = std::uint64_t{1} << 20;
constexpr double kBf16Goal = 1.5;  // With AMX.
constexpr double kF32Goal = 0.8;
constexpr double kPeakGoal = 0.5;

std::string name_of_case(std::uint64_t m, Math math) { return fmt::format("gemm.m{}.{}", m, name_of(math)); }

// x of so many rows, with all threads that are measured.
class GemmRound {
 public:
  GemmRound(const MatmulRun& run, const MatmulSubject& subject, std::uint64_t m)
      : run_(run), subject_(subject), m_(m), workers_(run.threads().back()), contest_(run.stop, passes(m)) {}

  void run(const DenseMatrix* dense) {
    add_product(Math::f32);
    add_product(Math::bf16);
    if (entries_.empty()) return;
    add_sgemm(dense);
    if (m_ == kPeakRowsOfX && run_.wants(name_of_case(m_, Math::bf16))) add_peak();
    contest_.run();
    for (const Entry& entry : entries_) add_rows(entry);
  }

 private:
  struct Entry {
    Math math;
    std::string products;
    std::size_t number = 0;
  };

  static std::uint64_t passes(std::uint64_t m) { return std::max<std::uint64_t>(1, kPeakRowsOfX / m); }

  double operations(std::uint64_t rows) const {
    return 2 * static_cast<double>(m_) * static_cast<double>(rows) * static_cast<double>(subject_.tensor.cols());
  }

  void add_product(Math math) {
    if (!run_.wants(name_of_case(m_, math))) return;
    auto product = std::make_shared<Product>(subject_.tensor, m_, math, Orientation::linear, workers_);
    const std::optional<MatmulPlan> plan = product->plan();
    if (!plan) return;
    const std::size_t number = contest_.add(operations(subject_.tensor.rows()), [product] { product->run(); });
    entries_.push_back({math, plan->products, number});
  }

  void add_sgemm(const DenseMatrix* dense) {
    const OpenBlas* const blas = OpenBlas::find();
    if (blas == nullptr || dense == nullptr) return;
    x_ = sample_values(m_ * dense->cols());
    y_.resize(m_ * dense->rows());
    sgemm_ = contest_.add(
        operations(dense->rows()),
        [this, blas, dense] {
          blas->multiply(dense->data(), dense->rows(), dense->cols(), x_.data(), m_, y_.data(), threads());
        },
        [this, blas] { blas->wait_until_idle(threads()); });
  }

  void add_peak() {
    const std::optional<Bf16Peak> peak = bf16_peak();
    if (!peak) return;
    peak_name_ = fmt::format("the most products of bf16 by {} alone, same threads", peak->instruction);
    const auto each = static_cast<double>(peak->run(1));
    peak_ = contest_.add(each * kPeakRounds * threads(),
                         [this, peak] { workers_.run([&](std::size_t) { keep(peak->run(kPeakRounds)); }); });
  }

  unsigned threads() const { return workers_.concurrency(); }

  void add_rows(const Entry& entry) {
    const bool is_bf16 = entry.math == Math::bf16;
    std::optional<Goal> goal = run_.at_least(is_bf16 ? kBf16Goal : kF32Goal);
    if (is_bf16 && !is_available(Isa::amx)) goal.reset();
    add_row(entry, sgemm_, "sgemm",
            "OpenBLAS sgemm on the matrix decoded to f32 (of a large one the first rows), same threads", goal);
    if (is_bf16 && peak_) add_row(entry, peak_, "peak", peak_name_, run_.at_least(kPeakGoal));
  }

  void add_row(const Entry& entry, std::optional<std::size_t> reference, const char* against, const std::string& text,
               std::optional<Goal> goal) {
    Row row;
    row.name = name_of_case(m_, entry.math);
    row.params = {{"encoding", subject_.label},     {"rows", subject_.tensor.rows()},
                  {"cols", subject_.tensor.cols()}, {"threads", threads()},
                  {"products", entry.products},     {"against", reference ? against : "nothing"}};
    row.value = contest_.result(entry.number);
    row.unit = "Gop/s";
    if (reference) {
      row.reference = text;
      row.reference_value = contest_.result(*reference).median;
      row.goal = goal;
    }
    run_.report.add(std::move(row));
  }

  const MatmulRun& run_;
  const MatmulSubject& subject_;
  std::uint64_t m_;
  Workers workers_;
  Contest contest_;
  std::vector<Entry> entries_;
  std::vector<float> x_;
  std::vector<float> y_;
  std::optional<std::size_t> sgemm_;
  std::optional<std::size_t> peak_;
  std::string peak_name_;
};

}  // namespace

void run_gemm(const MatmulRun& run, const MatmulSubject& subject) {
  if (!run.wants_some("gemm.")) return;
  std::optional<DenseMatrix> dense;
  Workers workers(0);
  const std::uint64_t most = std::max<std::uint64_t>(1, run.sizes.large_bytes / (4 * subject.tensor.cols()));
  if (OpenBlas::find() != nullptr) dense.emplace(subject.tensor, std::min(subject.tensor.rows(), most), workers);
  for (const std::uint64_t m : kRowsOfX) GemmRound(run, subject, m).run(dense ? &*dense : nullptr);
}

void run_gemm(const MatmulRun& run) {
  if (!run.wants_some("gemm.")) return;
  const std::uint64_t side = run.sizes.gemm_side;
  run_gemm(run, make_subject(run, {"cb8", 0, side, DType::f32}, side * side, "gemm"));
  std::filesystem::remove(run.scratch.path("gemm"));
}

}  // namespace cdna::tools::bench
