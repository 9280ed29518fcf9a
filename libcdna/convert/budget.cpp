// What may be tried on each tensor, what it costs in the file, and the choice.
#include "libcdna/convert/budget.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "cdna/writer.hpp"
#include "libcdna/convert/conversion.hpp"
#include "libcdna/convert/counting_sink.hpp"
#include "libcdna/convert/item_overhead.hpp"
#include "libcdna/convert/number_text.hpp"
#include "libcdna/try.hpp"

namespace cdna {
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
      choices.constraint = std::string(name_of(decision.role)) + ": 8 bits at least";
    } else {
      choices.presets.push_back(candidate);
    }
  }
  if (choices.presets.empty()) choices.presets.push_back({});
  return choices;
}

// "384x384"; "scalar" for rank 0.
std::string shape_text(std::span<const std::uint64_t> shape) {
  std::string text;
  for (const std::uint64_t dim : shape) text += (text.empty() ? "" : "x") + std::to_string(dim);
  return text.empty() ? "scalar" : text;
}

// Of the file without its tensors: assets, metadata, footer and tail.
Result<std::uint64_t> bytes_without_tensors(const ConvertOptions& options, const Model& model, const Plan& plan) {
  std::uint64_t bytes = 0;
  WriterOptions writer_options;
  writer_options.threads = options.threads;
  writer_options.stop = options.stop;
  Writer writer = CDNA_TRY(Writer::create(std::make_unique<CountingSink>(bytes), writer_options));
  CDNA_TRY(add_assets(model, options.codec, writer));
  CDNA_TRY(writer.finish(metadata_of(model, plan)));
  return bytes;
}

// The tensors that are stored: aliases take no part.
class Spending {
 public:
  Spending(const ConvertOptions& options, const ConvertRequest& request, const Model& model, Plan& plan)
      : options_(options), request_(request), model_(model), plan_(plan) {
    for (std::size_t i = 0; i < plan.tensors.size(); ++i) {
      if (!plan.tensors[i].alias_of) add(i);
    }
  }

  Result<void> run() {
    CDNA_TRY(measure_all());
    CDNA_TRY(find_overhead());
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

  Result<void> measure_all() {
    TrialOptions options;
    options.codec = options_.codec;
    options.threads = options_.threads;
    options.stop = options_.stop;
    Progress progress(options_.progress, all_bytes_);
    const auto read = [&](std::size_t trial, std::uint64_t offset, std::span<std::byte> out) {
      progress.show(bytes_before_[trial]);
      return model_.read(numbers_[trial], offset, out);
    };
    points_ = CDNA_TRY(measure(trials_, read, options));
    progress.finish();
    return {};
  }

  Result<void> find_overhead() {
    budget_.bits_per_weight = request_.bits_per_weight;
    budget_.target_bytes = request_.target_bytes;
    if (!request_.target_bytes) return {};
    const std::uint64_t bytes = CDNA_TRY(bytes_without_tensors(options_, model_, plan_));
    budget_.overhead_bytes = bytes + kFooterPaddingBytesMax;
    for (std::size_t i = 0; i < plan_.tensors.size(); ++i) {
      if (plan_.tensors[i].alias_of) budget_.overhead_bytes += overhead_of_alias(model_.tensors()[i]);
    }
    return {};
  }

  std::uint64_t overhead(std::size_t trial, std::size_t choice) const {
    if (!request_.target_bytes) return 0;
    return overhead_of(model_.tensors()[numbers_[trial]], trials_[trial].presets[choice], options_.codec,
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
    if (request_.bits_per_weight) {
      const double least = static_cast<double>(bytes_min) * 8 / budget_.elements;
      return fail(Code::bad_argument, "",
                  "bits_per_weight " + number_text(*request_.bits_per_weight) +
                      ": the least possible for this model is " + thousandths_text(std::ceil(least * 1000) / 1000));
    }
    const double least = static_cast<double>(bytes_min + budget_.overhead_bytes) / (1 - kSampleMargin);
    return fail(Code::bad_argument, "",
                "target_bytes " + std::to_string(*request_.target_bytes) + ": the least possible for this model is " +
                    std::to_string(static_cast<std::uint64_t>(std::ceil(least)) + 1) + " bytes");
  }

  Result<void> choose() {
    const std::vector<AllocationTensor> tensors = allocation_tensors();
    const AllocationRange range = allocation_range(tensors);
    const double bytes = budget_bytes();
    if (bytes < static_cast<double>(range.bytes_min)) return below_least(range.bytes_min);
    budget_.all_best = bytes >= static_cast<double>(range.bytes_max);
    const Allocation allocation =
        CDNA_TRY(allocate(tensors, budget_.all_best ? range.bytes_max : static_cast<std::uint64_t>(std::floor(bytes))));
    budget_.price = allocation.price;
    budget_.mean_error = budget_.elements > 0 ? allocation.weighted_error / budget_.elements : 0;
    for (std::size_t trial = 0; trial < trials_.size(); ++trial) accept(trial, allocation.tensors[trial]);
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
    plan.decision.reason = choice ? "planned, " + shape_text(tensor.shape) : constraints_[trial];
    if (choice && !constraints_[trial].empty()) plan.decision.reason += "; " + constraints_[trial];
  }

  const ConvertOptions& options_;
  const ConvertRequest& request_;
  const Model& model_;
  Plan& plan_;
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
                          Plan& plan) {
  return Spending(options, request, model, plan).run();
}

}  // namespace cdna
