// gemv.ENCODING.MATH.T and .N: one row of x, or a few, against reading, decoding, OpenBLAS and cb8.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/bench/f32_codebook_file.hpp"
#include "tools/bench/matmul_cases.hpp"
#include "tools/bench/matmul_references.hpp"
#include "tools/bench/openblas.hpp"
#include "tools/bench/product.hpp"

namespace cdna::tools::bench {
namespace {

constexpr std::uint64_t kCols = 4096;
constexpr const char* kF32Codebook = "cb8-f32codebook";

struct Kind {
  std::string_view name;
  Math math = Math::f32;
  Orientation orientation = Orientation::linear;
  std::uint64_t m = 1;
};
constexpr std::array<Kind, 6> kKinds{{{"f32.T", Math::f32, Orientation::linear, 1},
                                      {"bf16.T", Math::bf16, Orientation::linear, 1},
                                      {"int8.T", Math::int8, Orientation::linear, 1},
                                      {"f32.N", Math::f32, Orientation::transposed, 1},
                                      {"f32.T.m2", Math::f32, Orientation::linear, 2},
                                      {"f32.T.m4", Math::f32, Orientation::linear, 4}}};

struct ReadingGoal {
  std::string_view label;
  std::string_view kind;
  double share;
};
constexpr std::array<ReadingGoal, 4> kReadingGoals{
    {{"cb8", "f32.T", 0.75}, {"cb8", "bf16.T", 0.85}, {"cb8", "int8.T", 0.9}, {kF32Codebook, "f32.T", 0.5}}};

constexpr const char* kReading = "adding up the words of the same bytes in the same populated map, same threads";
constexpr const char* kDecoding = "Tensor::read_rows() of the same tensor as f32 into a small buffer, same threads";
constexpr const char* kSgemvOfPart =
    "OpenBLAS sgemv on the first rows decoded to f32, as many as lie beyond the cache; same threads, per weight";
constexpr const char* kSgemv = "OpenBLAS sgemv on the same matrix decoded to f32, same threads";
constexpr const char* kCb8 = "gemv.cb8.f32.T on as many bytes of codes, same threads, per weight";

// One tensor with so many threads: everything that is compared takes turns.
class GemvRound {
 public:
  GemvRound(const MatmulRun& run, const MatmulSubject& subject, unsigned threads)
      : run_(run),
        subject_(subject),
        threads_(threads),
        workers_(threads),
        contest_(run.stop, passes_over(subject.bytes())) {}

  void add_products() {
    for (const Kind& kind : kKinds) {
      const std::string name = fmt::format("gemv.{}.{}", subject_.label, kind.name);
      if (!run_.wants(name) || (kind.m > 1 && subject_.label != "cb8" && run_.options.file.empty())) continue;
      auto product = std::make_shared<Product>(subject_.tensor, kind.m, kind.math, kind.orientation, workers_);
      const std::optional<MatmulPlan> plan = product->plan();
      if (!plan) continue;
      const std::size_t number = contest_.add(bytes(), [product] { product->run(); });
      entries_.push_back({name, kind, plan->products, number});
    }
  }
  bool is_empty() const { return entries_.empty(); }

  void run(const DenseMatrix* dense, const MatmulSubject* cb8) {
    if (subject_.is_raw()) {
      const auto plane = first_plane(subject_.reader, subject_.tensor);
      reading_ = contest_.add(bytes(), [this, plane] { read(workers_, plane); });
    }
    if (has_plain_product()) {
      decoding_ = contest_.add(weights(), [this] { decode(workers_, subject_.tensor); });
      add_sgemv(dense);
      add_cb8(cb8);
    }
    contest_.run();
    for (const Entry& entry : entries_) add_rows(entry);
  }

 private:
  struct Entry {
    std::string name;
    Kind kind;
    std::string products;
    std::size_t number = 0;
  };

  double bytes() const { return static_cast<double>(subject_.bytes()); }
  double weights() const { return static_cast<double>(subject_.weights()); }
  static bool is_plain(const Entry& entry) { return entry.kind.name == "f32.T"; }
  bool has_plain_product() const { return std::any_of(entries_.begin(), entries_.end(), is_plain); }

  void add_sgemv(const DenseMatrix* dense) {
    const OpenBlas* const blas = OpenBlas::find();
    if (blas == nullptr || dense == nullptr) return;
    sgemv_text_ = dense->rows() < subject_.tensor.rows() ? kSgemvOfPart : kSgemv;
    x_ = sample_values(dense->cols());
    y_.resize(dense->rows());
    sgemv_ = contest_.add(
        static_cast<double>(dense->rows() * dense->cols()),
        [this, blas, dense] {
          blas->multiply(dense->data(), dense->rows(), dense->cols(), x_.data(), 1, y_.data(), threads_);
        },
        [this, blas] { blas->wait_until_idle(threads_); });
  }

  void add_cb8(const MatmulSubject* cb8) {
    if (cb8 == nullptr) return;
    auto product = std::make_shared<Product>(cb8->tensor, 1, Math::f32, Orientation::linear, workers_);
    cb8_ = contest_.add(static_cast<double>(cb8->weights()), [product] { product->run(); });
  }

  Row row_of(const Entry& entry, const char* against) const {
    Row row;
    row.name = entry.name;
    row.params = {{"bytes", subject_.bytes()},
                  {"cols", subject_.tensor.cols()},
                  {"threads", workers_.concurrency()},
                  {"products", entry.products},
                  {"against", against}};
    return row;
  }

  void add_rows(const Entry& entry) {
    Row row = row_of(entry, reading_ ? "reading" : "nothing");
    row.value = contest_.result(entry.number);
    row.unit = "GB/s";
    if (reading_) {
      row.reference = kReading;
      row.reference_value = contest_.result(*reading_).median;
      row.goal = reading_goal(entry);
    }
    run_.report.add(std::move(row));
    if (!is_plain(entry)) return;
    add_per_weight(entry, decoding_, "decoding", kDecoding, std::nullopt);
    add_per_weight(entry, sgemv_, "sgemv", sgemv_text_, sgemv_goal());
    add_per_weight(entry, cb8_, "cb8", kCb8, cb8_goal());
  }

  void add_per_weight(const Entry& entry, std::optional<std::size_t> reference, const char* against, const char* text,
                      std::optional<Goal> goal) {
    if (!reference) return;
    Row row = row_of(entry, against);
    row.value = contest_.result(entry.number, weights() / bytes());
    row.unit = "Gw/s";
    row.reference = text;
    row.reference_value = contest_.result(*reference).median;
    row.goal = goal;
    run_.report.add(std::move(row));
  }

  std::optional<Goal> reading_goal(const Entry& entry) const {
    if (!subject_.beyond_cache) return std::nullopt;
    for (const ReadingGoal& goal : kReadingGoals) {
      if (goal.label == subject_.label && goal.kind == entry.kind.name) return run_.at_least(goal.share);
    }
    return std::nullopt;
  }

  std::optional<Goal> sgemv_goal() const {
    if (!subject_.label.starts_with("cb")) return std::nullopt;
    return run_.at_least(subject_.beyond_cache ? 3 : 1.5);
  }

  std::optional<Goal> cb8_goal() const {
    if (!subject_.beyond_cache) return std::nullopt;
    if (subject_.label == "cb6g64") return run_.at_least(1);
    if (subject_.label == "cb4g32") return run_.at_least(1.4);
    return std::nullopt;
  }

  const MatmulRun& run_;
  const MatmulSubject& subject_;
  unsigned threads_;
  Workers workers_;
  Contest contest_;
  std::vector<Entry> entries_;
  std::vector<float> x_;
  std::vector<float> y_;
  std::optional<std::size_t> reading_;
  std::optional<std::size_t> decoding_;
  std::optional<std::size_t> sgemv_;
  const char* sgemv_text_ = kSgemv;
  std::optional<std::size_t> cb8_;
};

// Beyond the cache not all of it: f32 takes four bytes for one of cb8.
std::optional<DenseMatrix> dense_of(const MatmulRun& run, const MatmulSubject& subject) {
  if (OpenBlas::find() == nullptr || !run.wants(fmt::format("gemv.{}.f32.T", subject.label))) return std::nullopt;
  const std::uint64_t rows = subject.tensor.rows();
  const std::uint64_t most = std::max<std::uint64_t>(1, run.sizes.large_bytes / (4 * subject.tensor.cols()));
  Workers workers(0);
  return DenseMatrix(subject.tensor, std::min(rows, most), workers);
}

void compare(const MatmulRun& run, const MatmulSubject& subject, const MatmulSubject* cb8) {
  const std::optional<DenseMatrix> dense = dense_of(run, subject);
  for (const unsigned threads : run.threads()) {
    GemvRound round(run, subject, threads);
    round.add_products();
    if (round.is_empty()) return;
    round.run(dense ? &*dense : nullptr, cb8);
  }
}

struct Encoding {
  std::string label;
  MatrixFile matrix;
};

std::vector<Encoding> other_encodings() {
  std::vector<Encoding> all;
  for (const char* const preset : {"cb8g64", "cb6g64", "cb5g32", "cb4g32"})
    all.push_back({preset, {preset, 0, kCols, DType::f32}});
  all.push_back({"exact-f32", {"exact", 0, kCols, DType::f32}});
  all.push_back({"exact-bf16", {"exact", 0, kCols, DType::bf16}});
  return all;
}

void compare_f32_codebook(const MatmulRun& run, const MatmulSubject& cb8) {
  if (!run.wants_some(fmt::format("gemv.{}", kF32Codebook))) return;
  const std::string path = run.scratch.path("f32codebook");
  write_with_f32_codebook(cb8.reader, path, run.stop);
  compare(run, open_subject(kF32Codebook, path, kMatrixName, cb8.beyond_cache), nullptr);
  std::filesystem::remove(path);
}

// All encodings with about so many bytes of codes.
void compare_all(const MatmulRun& run, std::uint64_t bytes) {
  const MatmulSubject cb8 = make_subject(run, {"cb8", 0, kCols, DType::f32}, bytes, "cb8");
  compare(run, cb8, nullptr);
  compare_f32_codebook(run, cb8);
  for (const Encoding& encoding : other_encodings()) {
    if (!run.wants_some("gemv." + encoding.label)) continue;
    MatmulSubject subject = make_subject(run, encoding.matrix, bytes, "other");
    subject.label = encoding.label;
    const bool is_codes = encoding.matrix.preset != "exact";
    compare(run, subject, is_codes && subject.beyond_cache ? &cb8 : nullptr);
    std::filesystem::remove(run.scratch.path("other"));
  }
  std::filesystem::remove(run.scratch.path("cb8"));
}

}  // namespace

void run_gemv(const MatmulRun& run) {
  if (!run.wants_some("gemv.")) return;
  compare_all(run, run.sizes.large_bytes);
  if (run.sizes.small_bytes < run.sizes.large_bytes) compare_all(run, run.sizes.small_bytes);
  for (const std::uint64_t cols : {std::uint64_t{1024}, std::uint64_t{2048}}) {
    if (!run.wants_some("gemv.cb8")) return;
    const MatmulSubject cb8 = make_subject(run, {"cb8", 0, cols, DType::f32}, run.sizes.small_bytes, "narrow");
    compare(run, cb8, nullptr);
    std::filesystem::remove(run.scratch.path("narrow"));
  }
}

void run_gemv(const MatmulRun& run, const MatmulSubject& subject) { compare(run, subject, nullptr); }

}  // namespace cdna::tools::bench
