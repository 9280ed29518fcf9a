// codec.NAME and first_pass: what comes before the arithmetic, against doing one after the other.
#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "tools/bench/matmul_cases.hpp"
#include "tools/bench/matmul_references.hpp"
#include "tools/bench/product.hpp"

namespace cdna::tools::bench {
namespace {

constexpr std::uint64_t kCols = 4096;
constexpr double kOverlapGoal = 0.9;

// The rate of two steps one after the other.
double in_series(double a, double b) { return 1 / (1 / a + 1 / b); }

Reader fresh(std::unique_ptr<Source> source) {
  OpenOptions options;
  options.trust = Trust::zero_copy;
  return require(Reader::open(std::move(source), options));
}

struct CodecCase {
  std::string name;
  std::string tensor;
  MatrixFile matrix;
};

// "cb8,class=affine,outliers=0" is a uniform grid: Gaussian values have an entropy of about 6.5 bits there.
std::vector<CodecCase> codec_cases() {
  const char* const grid = "cb8,class=affine,outliers=0";
  return {{"codec.zstd", "uniform grid", {grid, 0, kCols, DType::f32, Codec::zstd}},
          {"codec.zstd", "exact-z BF16", {"exact-z", 0, kCols, DType::bf16}},
          {"codec.zstd", "exact-z F32", {"exact-z", 0, kCols, DType::f32}},
          {"codec.brotli", "uniform grid", {grid, 0, kCols, DType::f32, Codec::brotli}},
          {"codec.brotli", "exact BF16", {"exact", 0, kCols, DType::bf16, Codec::brotli}}};
}

// The same tensor in raw blocks.
MatrixFile raw(MatrixFile matrix) {
  if (matrix.preset == "exact-z") matrix.preset = "exact";
  matrix.codec = Codec::raw;
  return matrix;
}

bool has_filter(const Tensor& tensor) { return (require(tensor.filters(0)) & ~1U) != 0; }

// d: decompressing alone. zstd's and brotli's own functions; byte planes, which they do not know, by Tensor::blocks().
std::function<void()> decompression(const MatmulSubject& subject, Workers& workers) {
  if (has_filter(subject.tensor)) return [&] { walk(workers, subject.tensor); };
  const auto blocks = std::make_shared<const CodecBlocks>(subject.reader, subject.tensor);
  return [&workers, blocks] { blocks->decompress(workers); };
}

void compare_codec(const MatmulRun& run, const CodecCase& of, unsigned threads, const MatmulSubject& packed,
                   const MatmulSubject& plain) {
  Workers workers(threads);
  const auto bytes = static_cast<double>(packed.bytes());
  Product product(packed.tensor, 1, Math::f32, Orientation::linear, workers);
  const std::optional<MatmulPlan> plan = product.plan();
  if (!plan) return;
  Contest contest(run.stop, 1);
  const std::size_t d = contest.add(bytes, decompression(packed, workers));
  const std::size_t g = contest.add(bytes, [&] { product.run(plain.tensor); });
  const std::size_t ours = contest.add(bytes, [&] { product.run(); });
  contest.run();
  Row row;
  row.name = of.name;
  row.params = {{"tensor", of.tensor},
                {"bytes", packed.bytes()},
                {"stored", rounded(static_cast<double>(packed.tensor.plane(0).stored_bytes) / bytes)},
                {"threads", threads},
                {"d", rounded(contest.result(d).median)},
                {"g", rounded(contest.result(g).median)},
                {"blocks", plan->blocks}};
  row.value = contest.result(ours);
  row.unit = "GB/s";
  row.reference =
      "1/(1/d + 1/g): d decompresses the same blocks (zstd, brotli; of exact-z Tensor::blocks()), g multiplies with "
      "the "
      "same tensor in raw blocks; same threads, decoded bytes";
  row.reference_value = in_series(contest.result(d).median, contest.result(g).median);
  row.goal = run.at_least(kOverlapGoal);
  run.report.add(std::move(row));
}

}  // namespace

void run_codecs(const MatmulRun& run) {
  for (const CodecCase& of : codec_cases()) {
    if (!run.wants(of.name)) continue;
    const MatmulSubject packed = make_subject(run, of.matrix, run.sizes.codec_bytes, "packed");
    const MatmulSubject plain = make_subject(run, raw(of.matrix), run.sizes.codec_bytes, "plain");
    for (const unsigned threads : run.threads()) compare_codec(run, of, threads, packed, plain);
    std::filesystem::remove(run.scratch.path("packed"));
    std::filesystem::remove(run.scratch.path("plain"));
  }
}

namespace {

// Readers that have verified nothing, one for each time.
class FirstPass {
 public:
  FirstPass(const MatmulRun& run, const MatmulSubject& subject, unsigned threads)
      : run_(run),
        subject_(subject),
        workers_(threads),
        product_(subject.tensor, 1, Math::f32, Orientation::linear, workers_) {}

  void compare() {
    const std::optional<MatmulPlan> plan = product_.plan();
    if (!plan) return;
    // Each reader is made by what comes before, so that opening is not in the time.
    const auto from_memory = [this] { renew(memory_source(subject_.reader.source().mapping())); };
    const auto from_file = [this] {
      renew(require(open_source(std::string(subject_.reader.source().name()), Io::mmap)));
    };
    Contest contest(run_.stop, 1);
    const auto bytes = static_cast<double>(subject_.bytes());
    const std::size_t second = contest.add(
        bytes, [this] { product_.run(); }, from_memory);
    const std::size_t hashing = contest.add(
        bytes, [this] { walk(workers_, unverified()); }, from_file);
    const std::size_t touching = contest.add(
        bytes, [this] { walk(workers_, unverified()); }, from_file);
    const std::size_t first = contest.add(bytes, [this] { product_.run(unverified()); });
    contest.run();
    const double h = contest.result(hashing).median;
    const double g = contest.result(second).median;
    Row row;
    row.name = "first_pass";
    row.params = {{"bytes", subject_.bytes()},
                  {"threads", workers_.concurrency()},
                  {"h", rounded(h)},
                  {"h_with_page_faults", rounded(contest.result(touching).median)},
                  {"g", rounded(g)}};
    row.value = contest.result(first);
    row.unit = "GB/s";
    row.reference =
        "1/(1/h + 1/g): h verifies the same blocks in a map whose pages are there, g is the second pass; same threads";
    row.reference_value = in_series(h, g);
    row.goal = run_.at_least(kOverlapGoal);
    run_.report.add(std::move(row));
  }

 private:
  void renew(std::unique_ptr<Source> source) { reader_.emplace(fresh(std::move(source))); }
  Tensor unverified() const { return *reader_->find(subject_.tensor.name()); }

  const MatmulRun& run_;
  const MatmulSubject& subject_;
  Workers workers_;
  Product product_;
  std::optional<Reader> reader_;
};

}  // namespace

void run_first_pass(const MatmulRun& run, const MatmulSubject& subject) {
  if (!run.wants("first_pass") || subject.reader.source().mapping().empty()) return;
  for (const unsigned threads : run.threads()) FirstPass(run, subject, threads).compare();
}

void run_first_pass(const MatmulRun& run) {
  if (!run.wants("first_pass")) return;
  run_first_pass(run, make_subject(run, {"cb8", 0, kCols, DType::f32}, run.sizes.large_bytes, "first"));
  std::filesystem::remove(run.scratch.path("first"));
}

}  // namespace cdna::tools::bench
