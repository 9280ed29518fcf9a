// The cases of `cdna bench quality`.
#include "tools/bench/quality_bench.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <span>
#include <stdexcept>
#include <thread>

#include "cdna/encode.hpp"
#include "tools/bench/quantisers.hpp"
#include "tools/bench/weight_sources.hpp"
#include "tools/interrupt.hpp"

namespace cdna::tools::bench {
namespace {

constexpr double kPi = 3.14159265358979323846;

// At 4096 x 4096: bits per weight at most, dB at least.
struct Goals {
  std::string_view preset;
  double bits;
  std::array<double, 3> db;  // Of the sources A, B and C.
};
constexpr std::uint64_t kGoalSize = 4096;
constexpr std::array<Goals, 5> kGoals{{
    {"cb8", 8.10, {43.9, 42.8, 42.7}},
    {"cb8g64", 8.15, {45.4, 44.6, 44.4}},
    {"cb6g64", 6.15, {33.3, 32.5, 32.3}},
    {"cb5g32", 5.28, {28.1, 27.5, 27.3}},
    {"cb4g32", 4.28, {21.9, 21.3, 21.1}},
}};

double decibels(double ratio) { return 10 * std::log10(ratio); }

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// The least power that noise at 0 bits has by Shannon's bound: that of Gaussian noise of the values' mean entropy,
// their sigmas given. Each bit takes 6.02 dB from it.
double entropy_power(Distribution distribution, const WeightOptions& options) {
  const double mean_log_sigma = mean_of(log_row_sigmas(options)) + mean_of(log_column_sigmas(options));
  return std::exp(2 * (entropy_nats(distribution) + mean_log_sigma)) / (2 * kPi * std::exp(1.0));
}

// What the bound is, with what sources of infinite size add to 6.02 dB per bit.
std::string bound_text(const WeightOptions& options) {
  const double log_variance = options.row_spread * options.row_spread + options.column_spread * options.column_spread;
  const WeightOptions one_sigma{1, 1, options.seed, 0, 0};
  std::string tails;
  for (const WeightSource& source : weight_sources()) {
    if (source.distribution == Distribution::gaussian) continue;  // Has none.
    const double gain = variance_of(source.distribution) / entropy_power(source.distribution, one_sigma);
    tails += fmt::format("{}{:.2f} ({})", tails.empty() ? "" : ", ", decibels(gain), source.name);
  }
  return fmt::format(
      "the dB that no code of as many bits exceeds (Shannon's lower bound, row and column sigmas known to both sides): "
      "6.02 per bit, {:.2f} for the spread of sigmas, for tails {}",
      decibels(std::exp(2 * log_variance)), tails);
}

// What one encoding makes of one source.
struct Figures {
  std::string encoding;
  double bits = 0;
  SquareSums sums;
  nlohmann::ordered_json params = nlohmann::ordered_json::object();
};

// The encoder's record is what its decoded values show; both are sums in f64, in different orders.
void require_same(const std::string& where, const char* what, double recorded, double measured) {
  if (std::abs(recorded - measured) <= 1e-9 * measured) return;
  throw std::runtime_error(
      fmt::format("{}: the recorded {} is {}, that of the decoded values is {}", where, what, recorded, measured));
}

std::string goal_text(const Row& row) {
  if (!row.goal) return "";
  return fmt::format("{} {:g} {}", row.goal->bound == Goal::Bound::min ? ">=" : "<=", row.goal->limit,
                     row.met() ? "met" : "MISSED");
}

class QualityBench {
 public:
  QualityBench(const QualityOptions& options, Report& report, const std::atomic<bool>& stop)
      : report_(report), stop_(stop), threads_(std::max(1U, std::thread::hardware_concurrency())) {
    weight_options_.rows = options.rows;
    weight_options_.cols = options.cols;
    bound_text_ = bound_text(weight_options_);
  }

  Result<void> run(const std::vector<QualityCase>& cases) {
    report_.note(fmt::format("{} x {} values z * row sigma * column sigma of F32, seed {}; sigmas lognormal, {} and {}",
                             weight_options_.rows, weight_options_.cols, weight_options_.seed,
                             weight_options_.row_spread, weight_options_.column_spread));
    for (std::size_t i = 0; i < weight_sources().size(); ++i)
      if (auto result = run_source(i, cases); !result) return result;
    report_.note("");
    for (const Quantiser& quantiser : quantisers())
      report_.note(fmt::format("{}: {}", quantiser.name, quantiser.description));
    return {};
  }

 private:
  Result<void> run_source(std::size_t source_index, const std::vector<QualityCase>& cases) {
    const WeightSource& source = weight_sources()[source_index];
    report_.note(fmt::format("\n{}: z is {}\n  {:<26} {:>11} {:<14} {:>7} {:<14} {:>6} {:>6}", source.name,
                             source.description, "encoding", "bits/weight", "goal", "dB", "goal", "bound", "below"));
    const std::vector<float> weights = make_weights(source.distribution, weight_options_, threads_);
    for (const QualityCase& each : cases) {
      if (stop_.load()) return stopped();
      auto figures = figures_of(source, each, weights);
      if (!figures) return std::move(figures).error();
      add(source_index, *figures);
    }
    for (const Quantiser& quantiser : quantisers()) {
      if (stop_.load()) return stopped();
      add(source_index, figures_of(quantiser, weights));
    }
    return {};
  }

  Result<Figures> figures_of(const WeightSource& source, const QualityCase& each,
                             const std::vector<float>& weights) const {
    const auto encoded = encode(DType::f32, weight_options_.rows, weight_options_.cols,
                                std::as_bytes(std::span(weights)), each.codebook, threads_);
    if (!encoded) return encoded.error();
    std::vector<float> decoded(weights.size());
    decode(*encoded, decoded);
    const TensorStatistics& statistics = encoded->statistics;
    Figures figures{each.name, encoded->bits_per_weight(), square_sums(weights, decoded), {}};
    const std::string where = fmt::format("source {}, {}", source.name, each.name);
    require_same(where, "sum of squares", statistics.sum_squares, figures.sums.signal);
    require_same(where, "sum of squared errors", statistics.sum_squared_error, figures.sums.error);
    figures.params = {{"kind", "preset"},
                      {"code_entropy_bits", statistics.code_entropy_bits},
                      {"outliers", statistics.outlier_count},
                      {"max_abs_error", statistics.max_abs_error}};
    return figures;
  }

  Figures figures_of(const Quantiser& quantiser, const std::vector<float>& weights) const {
    const Quantised quantised = quantiser.quantise(weights, weight_options_.cols);
    return {std::string(quantiser.name),
            quantised.bits_per_weight,
            square_sums(weights, quantised.values),
            {{"kind", "baseline"}, {"description", quantiser.description}}};
  }

  // A row for the error, beside which the size stands, and one for the size.
  void add(std::size_t source_index, const Figures& figures) {
    const WeightSource& source = weight_sources()[source_index];
    nlohmann::ordered_json params{{"source", source.name},
                                  {"rows", weight_options_.rows},
                                  {"cols", weight_options_.cols},
                                  {"seed", weight_options_.seed}};
    const double db = figures.sums.snr_db();
    Row size{figures.encoding, params, {figures.bits, figures.bits, figures.bits}, "bits/weight", "", 0, {}};
    params["bits_per_weight"] = figures.bits;
    params.update(figures.params);
    Row error{figures.encoding, std::move(params), {db, db, db}, "dB", bound_text_, bound_db(source, figures), {}};
    if (const Goals* const goals = goals_of(figures.encoding)) {
      size.goal = Goal{Goal::Of::value, Goal::Bound::max, goals->bits};
      if (source_index < goals->db.size())
        error.goal = Goal{Goal::Of::value, Goal::Bound::min, goals->db.at(source_index)};
    }
    const std::string line =
        fmt::format("  {:<26} {:>11.4f} {:<14} {:>7.2f} {:<14} {:>6.2f} {:>6.2f}", figures.encoding, figures.bits,
                    goal_text(size), db, goal_text(error), error.reference_value, error.reference_value - db);
    report_.add(std::move(error), line);
    report_.add(std::move(size), "");
  }

  double bound_db(const WeightSource& source, const Figures& figures) const {
    const double power = figures.sums.signal / static_cast<double>(weight_options_.rows * weight_options_.cols);
    return decibels(power / entropy_power(source.distribution, weight_options_)) + figures.bits * decibels(4);
  }

  const Goals* goals_of(const std::string& encoding) const {
    if (weight_options_.rows != kGoalSize || weight_options_.cols != kGoalSize) return nullptr;
    const auto* const found =
        std::find_if(kGoals.begin(), kGoals.end(), [&](const Goals& goals) { return goals.preset == encoding; });
    return found == kGoals.end() ? nullptr : found;
  }

  Report& report_;
  const std::atomic<bool>& stop_;
  unsigned threads_;
  WeightOptions weight_options_;
  std::string bound_text_;
};

}  // namespace

Result<std::vector<QualityCase>> quality_cases(const std::vector<std::string>& presets) {
  const std::span<const std::string_view> names = preset_names();
  std::vector<QualityCase> cases;
  for (const std::string& text : presets.empty() ? std::vector<std::string>(names.begin(), names.end()) : presets) {
    const auto preset = parse_preset(text);
    if (!preset) return preset.error();
    if (preset->method == Preset::Method::codebook) {
      cases.push_back({text, preset->codebook});
    } else if (!presets.empty()) {
      Error error;
      error.code = Code::bad_argument;
      error.message = "'" + text + "': an exact preset has no error to measure";
      return error;
    }
  }
  return cases;
}

Result<void> run_quality(const QualityOptions& options, Report& report, const std::atomic<bool>& stop) {
  return QualityBench(options, report, stop).run(options.cases);
}

}  // namespace cdna::tools::bench
