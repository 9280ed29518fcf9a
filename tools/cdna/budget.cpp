// What may be tried on each tensor, what it costs in the file, and the choice.
#include "tools/cdna/budget.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>
#include <span>
#include <thread>
#include <utility>

#include "cdna/writer.hpp"
#include "tools/cdna/item_overhead.hpp"
#include "tools/progress.hpp"
#include "tools/text.hpp"

namespace cdna::tools {
namespace {

constexpr int kEmbeddingBitsMin = 8;  // Below, perplexity suffers out of proportion to the mean error.
// What is measured on samples is off by less than this. A file of a wanted size should rather be smaller.
constexpr double kSampleMargin = 0.001;

bool is_embedding(Role role) { return role == Role::embedding || role == Role::output_head; }

bool is_coarse(const Preset& preset) {
  return preset.method == Preset::Method::codebook && std::bit_width(preset.codebook.entries - 1) < kEmbeddingBitsMin;
}

// The presets to try on a tensor, and why not all candidates.
struct Choices {
  std::vector<Preset> presets;
  std::string constraint;
};

Choices choices_of(const ConvertRequest& request, const ModelTensor& tensor, const TensorPlan& plan) {
  if (plan.rule) return {{plan.decision.preset}, plan.decision.reason};
  const bool embedding = is_embedding(plan.decision.role);
  Choices choices;
  for (const Preset& candidate : request.candidates) {
    const Asked asked = embedding ? Asked::by_name : Asked::for_all;
    const Decision decision = decide(candidate, tensor.name, tensor.dtype, tensor.shape, asked);
    if (decision.preset != candidate) {
      if (candidate.method == Preset::Method::codebook) choices.constraint = decision.reason;
    } else if (embedding && is_coarse(candidate)) {
      choices.constraint = fmt::format("{}: 8 bits at least", name_of(decision.role));
    } else {
      choices.presets.push_back(candidate);
    }
  }
  if (choices.presets.empty()) choices.presets.push_back({});
  return choices;
}

// Takes what is written to it for written.
class CountingSink final : public Sink {
 public:
  explicit CountingSink(std::uint64_t& bytes) : bytes_(bytes) {}
  Result<void> write(std::span<const std::byte> bytes) override {
    bytes_ += bytes.size();
    return {};
  }
  Result<void> commit() override { return {}; }

 private:
  std::uint64_t& bytes_;
};

// Of the file without its tensors: assets, metadata, footer and tail.
Result<std::uint64_t> bytes_without_tensors(const ConvertOptions& options, const ConvertRequest& request,
                                            const Model& model, const std::atomic<bool>& stop) {
  std::uint64_t bytes = 0;
  WriterOptions writer_options;
  writer_options.threads = options.threads;
  writer_options.stop = &stop;
  auto writer = Writer::create(std::make_unique<CountingSink>(bytes), writer_options);
  if (!writer) return std::move(writer).error();
  for (std::size_t i = 0; i < model.assets().size(); ++i) {
    const ModelAsset& asset = model.assets()[i];
    const auto read = [&model, i](std::uint64_t offset, std::span<std::byte> out) {
      return model.read_asset(i, offset, out);
    };
    auto item = writer->add_asset(asset.name, asset.media_type, asset.size_bytes, *codec_of(options.codec), read);
    if (!item) return std::move(item).error();
  }
  if (auto root = writer->finish(metadata_of(options, request, model)); !root) return std::move(root).error();
  return bytes;
}

// The tensors that are stored: aliases take no part.
class Spending {
 public:
  Spending(const ConvertOptions& options, const ConvertRequest& request, const Model& model, Plan& plan)
      : options_(options), request_(request), model_(model), plan_(plan), progress_("measuring") {
    for (std::size_t i = 0; i < plan.tensors.size(); ++i) {
      if (!plan.tensors[i].alias_of) add(i);
    }
  }

  Result<void> run(const std::atomic<bool>& stop) {
    if (auto result = measure_all(stop); !result) return result;
    if (auto result = find_overhead(stop); !result) return result;
    return choose();
  }

 private:
  void add(std::size_t i) {
    const ModelTensor& tensor = model_.tensors()[i];
    Choices choices = choices_of(request_, tensor, plan_.tensors[i]);
    trials_.push_back({tensor.name, tensor.dtype, tensor.shape, plan_.tensors[i].decision.role, choices.presets});
    constraints_.push_back(std::move(choices.constraint));
    numbers_.push_back(i);
    bytes_before_.push_back(all_bytes_);
    all_bytes_ += tensor.size_bytes;
    budget_.elements += elements_of(tensor);
  }

  Result<void> measure_all(const std::atomic<bool>& stop) {
    TrialOptions options;
    options.codec = *codec_of(options_.codec);
    options.threads = options_.threads;
    options.stop = &stop;
    const std::thread::id thread = std::this_thread::get_id();
    const auto read = [&](std::size_t trial, std::uint64_t offset, std::span<std::byte> out) {
      if (std::this_thread::get_id() == thread) progress_.show(bytes_before_[trial], all_bytes_);
      return model_.read(numbers_[trial], offset, out);
    };
    auto points = measure(trials_, read, options);
    progress_.clear();
    if (!points) return std::move(points).error();
    points_ = *std::move(points);
    return {};
  }

  Result<void> find_overhead(const std::atomic<bool>& stop) {
    budget_.bits_per_weight = request_.bits_per_weight;
    budget_.target_bytes = request_.target_bytes;
    if (!request_.target_bytes) return {};
    auto bytes = bytes_without_tensors(options_, request_, model_, stop);
    if (!bytes) return std::move(bytes).error();
    budget_.overhead_bytes = *bytes + kFooterPaddingBytesMax;
    for (std::size_t i = 0; i < plan_.tensors.size(); ++i) {
      if (plan_.tensors[i].alias_of) budget_.overhead_bytes += overhead_of_alias(model_.tensors()[i]);
    }
    return {};
  }

  std::uint64_t overhead(std::size_t trial, std::size_t choice) const {
    if (!request_.target_bytes) return 0;
    return overhead_of(model_.tensors()[numbers_[trial]], trials_[trial].presets[choice], *codec_of(options_.codec),
                       points_[trial][choice].stored_bytes);
  }

  std::vector<AllocationTensor> allocation_tensors() const {
    std::vector<AllocationTensor> tensors;
    for (std::size_t trial = 0; trial < trials_.size(); ++trial) {
      AllocationTensor& tensor = tensors.emplace_back();
      tensor.weight = elements_of(model_.tensors()[numbers_[trial]]);
      tensor.points = points_[trial];
      for (std::size_t i = 0; i < tensor.points.size(); ++i) tensor.points[i].stored_bytes += overhead(trial, i);
    }
    return tensors;
  }

  // For the tensors' planes and indices (and their other bytes where a file's size is wanted).
  double budget_bytes() const {
    if (request_.bits_per_weight) return *request_.bits_per_weight * budget_.elements / 8;
    return static_cast<double>(*request_.target_bytes) * (1 - kSampleMargin) -
           static_cast<double>(budget_.overhead_bytes);
  }

  Error below_least(std::uint64_t bytes_min) const {
    Error error;
    error.code = Code::bad_argument;
    if (request_.bits_per_weight) {
      const double least = static_cast<double>(bytes_min) * 8 / budget_.elements;
      error.message = fmt::format("--bits-per-weight {}: the least possible for this model is {:.3f}",
                                  *options_.bits_per_weight, std::ceil(least * 1000) / 1000);
    } else {
      const double least = static_cast<double>(bytes_min + budget_.overhead_bytes) / (1 - kSampleMargin);
      error.message = fmt::format("--target-size {}: the least possible for this model is {} bytes",
                                  *options_.target_size, static_cast<std::uint64_t>(std::ceil(least)) + 1);
    }
    return error;
  }

  Result<void> choose() {
    const std::vector<AllocationTensor> tensors = allocation_tensors();
    const AllocationRange range = allocation_range(tensors);
    const double bytes = budget_bytes();
    if (bytes < static_cast<double>(range.bytes_min)) return below_least(range.bytes_min);
    budget_.all_best = bytes >= static_cast<double>(range.bytes_max);
    auto allocation =
        allocate(tensors, budget_.all_best ? range.bytes_max : static_cast<std::uint64_t>(std::floor(bytes)));
    if (!allocation) return std::move(allocation).error();
    budget_.price = allocation->price;
    budget_.mean_error = budget_.elements > 0 ? allocation->weighted_error / budget_.elements : 0;
    for (std::size_t trial = 0; trial < trials_.size(); ++trial) accept(trial, allocation->tensors[trial]);
    plan_.budget = budget_;
    return {};
  }

  void accept(std::size_t trial, const AllocatedPoint& chosen) {
    const ModelTensor& tensor = model_.tensors()[numbers_[trial]];
    TensorPlan& plan = plan_.tensors[numbers_[trial]];
    const OperatingPoint& point = points_[trial][chosen.point];
    plan.forecast = Forecast{point, chosen, trials_[trial].presets.size(), constraints_[trial]};
    budget_.stored_bytes += point.stored_bytes;
    if (plan.rule) return;
    plan.decision.preset = trials_[trial].presets[chosen.point];
    const bool choice = trials_[trial].presets.size() > 1;
    plan.decision.reason = choice ? "planned, " + format_shape(tensor.shape) : constraints_[trial];
    if (choice && !constraints_[trial].empty()) plan.decision.reason += "; " + constraints_[trial];
  }

  const ConvertOptions& options_;
  const ConvertRequest& request_;
  const Model& model_;
  Plan& plan_;
  Progress progress_;
  BudgetPlan budget_;
  std::uint64_t all_bytes_ = 0;
  // Of each stored tensor:
  std::vector<std::size_t> numbers_;         // In the model.
  std::vector<std::uint64_t> bytes_before_;  // Of the tensors before it.
  std::vector<TrialTensor> trials_;
  std::vector<std::string> constraints_;
  std::vector<std::vector<OperatingPoint>> points_;
};

}  // namespace

Result<void> spend_budget(const ConvertOptions& options, const ConvertRequest& request, const Model& model,
                          const std::atomic<bool>& stop, Plan& plan) {
  return Spending(options, request, model, plan).run(stop);
}

}  // namespace cdna::tools
