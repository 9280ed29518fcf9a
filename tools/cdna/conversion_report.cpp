// Tables and totals of a conversion.
#include "tools/cdna/conversion_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tools/cdna/convert_arguments.hpp"
#include "tools/json.hpp"
#include "tools/text.hpp"

namespace cdna::tools {
namespace {

constexpr std::size_t kRuleTextMax = 72;  // Of a rule's text within the table of decisions.

double ratio_of(const ConvertReport& report) {
  if (report.stored_bytes == 0) return 1;
  return static_cast<double>(report.source_bytes) / static_cast<double>(report.stored_bytes);
}

double to_db(double relative_error) { return -10 * std::log10(relative_error); }

std::string cut(std::string text) {
  if (text.size() > kRuleTextMax) text = text.substr(0, kRuleTextMax - 3) + "...";
  return escape(text);
}

bool keeps_codes(const TensorPlan& tensor) { return tensor.decision.preset.method == Preset::Method::source; }

std::string decided_by(const Plan& plan, const TensorPlan& tensor) {
  if (keeps_codes(tensor)) return "source";
  if (tensor.rule) {
    const PlanRule& rule = plan.rules[*tensor.rule];
    const bool is_numbered = rule.origin == PlanRule::Origin::policy;
    return is_numbered ? cut(origin_text(rule) + ": " + rule.rule.text()) : origin_text(rule);
  }
  return tensor.forecast && tensor.forecast->choices > 1 ? "budget" : "default";
}

std::string number_or_dash(double value, const char* format) {
  return value > 0 ? fmt::format(fmt::runtime(format), value) : "-";
}

std::string reason_of(const Model& model, const Plan& plan, const TensorPlan& tensor) {
  if (tensor.alias_of) return "the same bytes as " + escape(model.tensors()[*tensor.alias_of].name);
  return reason_text(plan, tensor);
}

// The cells of a line of the table of decisions.
std::vector<std::string> cells_of(const Model& model, const Plan& plan, std::size_t i) {
  const TensorPlan& tensor = plan.tensors[i];
  std::vector<std::string> cells{tensor.alias_of ? "alias" : name_of(tensor.decision.preset),
                                 std::string(name_of(tensor.decision.role))};
  if (plan.budget) {
    const Forecast forecast = tensor.forecast.value_or(Forecast{});
    const double elements = elements_of(model.tensors()[i]);
    cells.push_back(
        number_or_dash(elements > 0 ? static_cast<double>(forecast.point.stored_bytes) * 8 / elements : 0, "{:.3f}"));
    const double error = forecast.point.relative_error;
    cells.push_back(error > 0 ? fmt::format("{:.1f}", to_db(error)) : "-");
    cells.push_back(number_or_dash(forecast.place.price_paid, "{:.2e}"));
    cells.push_back(number_or_dash(forecast.place.price_wanted, "{:.2e}"));
  }
  cells.push_back(decided_by(plan, tensor));
  cells.push_back(reason_of(model, plan, tensor));
  return cells;
}

void print_decisions(const Model& model, const Plan& plan) {
  std::vector<std::vector<std::string>> lines;
  lines.push_back(plan.budget
                      ? std::vector<std::string>{"preset", "role", "bits", "dB", "paid", "next", "decided by", "reason"}
                      : std::vector<std::string>{"preset", "role", "decided by", "reason"});
  for (std::size_t i = 0; i < plan.tensors.size(); ++i) lines.push_back(cells_of(model, plan, i));
  std::vector<std::size_t> widths(lines.front().size());
  for (const auto& cells : lines) {
    for (std::size_t i = 0; i < cells.size(); ++i)
      widths[i] = std::max(widths[i], std::min<std::size_t>(cells[i].size(), kRuleTextMax));
  }
  fmt::print("\nDecisions:\n");
  for (std::size_t line = 0; line < lines.size(); ++line) {
    fmt::print(" ");
    for (std::size_t i = 0; i < widths.size(); ++i) fmt::print(" {:<{}}", lines[line][i], widths[i]);
    fmt::print(" {}\n", line == 0 ? "tensor" : escape(model.tensors()[line - 1].name));
  }
}

std::string wanted_text(const BudgetPlan& budget) {
  return budget.bits_per_weight ? fmt::format("{} bits/weight", *budget.bits_per_weight)
                                : fmt::format("a file of {}", format_bytes(*budget.target_bytes));
}

void print_budget(const BudgetPlan& budget) {
  const double bits = budget.elements > 0 ? static_cast<double>(budget.stored_bytes) * 8 / budget.elements : 0;
  fmt::print("\nBudget: {} wanted, {:.3f} bits/weight planned", wanted_text(budget), bits);
  if (budget.mean_error > 0) fmt::print(", mean error {:.1f} dB", to_db(budget.mean_error));
  if (budget.all_best) {
    fmt::print(".\nMore than the best candidate of every tensor takes.\n");
    return;
  }
  fmt::print(
      ".\nEach tensor's squared error, relative to its squared values, counts by its number of weights. \"paid\" is "
      "what\n"
      "each byte of its last step saved of that sum, \"next\" what the next step would save; the budget ended at "
      "{:.2e}.\n",
      budget.price);
}

ordered_json number_or_null(double value) { return std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr); }

ordered_json forecast_json(const Forecast& forecast) {
  const double error = forecast.point.relative_error;
  return {{"stored_bytes", forecast.point.stored_bytes},
          {"snr_db", error > 0 ? number_or_null(to_db(error)) : ordered_json(nullptr)},
          {"choices", forecast.choices},
          {"constraint", forecast.constraint},
          {"price_paid", forecast.place.price_paid},
          {"price_next", forecast.place.price_wanted}};
}

ordered_json budget_json(const Finished& finished) {
  if (!finished.plan.budget) return nullptr;
  const BudgetPlan& budget = *finished.plan.budget;
  ordered_json out = ordered_json::object();
  out["bits_per_weight"] = budget.bits_per_weight ? ordered_json(*budget.bits_per_weight) : ordered_json(nullptr);
  out["target_bytes"] = budget.target_bytes ? ordered_json(*budget.target_bytes) : ordered_json(nullptr);
  out["planned_stored_bytes"] = budget.stored_bytes;
  out["mean_relative_error"] = budget.mean_error;
  out["price"] = budget.price;
  out["all_best"] = budget.all_best;
  return out;
}

double bits_per_weight(const Finished& finished, std::size_t i) {
  const double elements = elements_of(finished.model.tensors()[i]);
  return elements > 0 ? static_cast<double>(finished.report.tensors[i].written.stored_bytes) * 8 / elements : 0;
}

ordered_json codes_json(const Finished& finished, std::size_t i) {
  const std::optional<SourceCodes>& codes = finished.report.tensors[i].codes;
  if (!codes) return nullptr;
  ordered_json out{{"bits", codes->bits}, {"vector", codes->vector}, {"group", codes->group}};
  out["group_offsets"] = codes->has_offsets;
  out["column_scales"] = codes->has_column_scales;
  out["outliers"] = codes->outliers;
  out["outlier_dtype"] =
      codes->outlier_dtype == DType::none ? ordered_json(nullptr) : ordered_json(name_of(codes->outlier_dtype));
  out["rank"] = codes->rank;
  out["bits_per_weight"] = bits_per_weight(finished, i);
  return out;
}

// "8-bit codes", "12-bit codes for 2 weights each, groups of 32 with offsets, F16 outliers".
std::string text_of(const SourceCodes& codes) {
  std::string text = fmt::format("{}-bit codes", codes.bits);
  if (codes.vector > 1) text += fmt::format(" for {} weights each", codes.vector);
  if (codes.group > 0) text += fmt::format(", groups of {}{}", codes.group, codes.has_offsets ? " with offsets" : "");
  if (codes.has_column_scales) text += ", column scales";
  const std::string dtype = codes.outlier_dtype == DType::none ? "" : std::string(name_of(codes.outlier_dtype)) + " ";
  if (codes.outliers > 0) text += fmt::format(", {}outliers", dtype);
  if (codes.rank > 0) text += fmt::format(", and a matrix of rank {}", codes.rank);
  return text;
}

// Tensors that kept the codes of their source, by what these are.
void print_source_codes(const Finished& finished) {
  struct Sum {
    std::size_t tensors = 0;
    double bits = 0;
    double elements = 0;
  };
  std::map<std::string, Sum> sums;
  for (std::size_t i = 0; i < finished.report.tensors.size(); ++i) {
    const ConvertedTensor& tensor = finished.report.tensors[i];
    if (!tensor.codes) continue;
    Sum& sum = sums[text_of(*tensor.codes)];
    ++sum.tensors;
    sum.bits += static_cast<double>(tensor.written.stored_bytes) * 8;
    sum.elements += elements_of(finished.model.tensors()[i]);
  }
  for (const auto& [text, sum] : sums) {
    fmt::print("as the source has them: {} tensor{}, {:.2f} bits/weight, {}\n", sum.tensors,
               sum.tensors == 1 ? "" : "s", sum.elements > 0 ? sum.bits / sum.elements : 0, text);
  }
}

ordered_json tensor_json(const Finished& finished, std::size_t i) {
  const TensorPlan& plan = finished.plan.tensors[i];
  const WrittenItem& written = finished.report.tensors[i].written;
  const PlanRule* const rule = plan.rule ? &finished.plan.rules[*plan.rule] : nullptr;
  ordered_json out{{"name", finished.model.tensors()[i].name}, {"role", name_of(plan.decision.role)}};
  out["preset"] = plan.alias_of ? ordered_json(nullptr) : ordered_json(name_of(plan.decision.preset));
  out["alias_of"] = plan.alias_of ? ordered_json(finished.model.tensors()[*plan.alias_of].name) : ordered_json(nullptr);
  out["reason"] = reason_text(finished.plan, plan);
  const bool chosen = plan.forecast && plan.forecast->choices > 1;
  out["decided_by"] = keeps_codes(plan) ? "source"
                      : rule != nullptr ? origin_text(*rule)
                      : chosen          ? "budget"
                                        : "default";
  const bool is_numbered = rule != nullptr && rule->origin == PlanRule::Origin::policy;
  out["rule"] = is_numbered ? ordered_json(rule->number) : ordered_json(nullptr);
  out["stored_bytes"] = written.stored_bytes;
  out["codes"] = codes_json(finished, i);
  const bool has_error = written.statistics.sum_squared_error > 0;
  out["snr_db"] =
      has_error ? number_or_null(10 * std::log10(written.statistics.sum_squares / written.statistics.sum_squared_error))
                : ordered_json(nullptr);
  out["forecast"] = plan.forecast ? forecast_json(*plan.forecast) : ordered_json(nullptr);
  return out;
}

}  // namespace

void print_explanation(const Model& model, const Plan& plan) {
  fmt::print("Roles, by the tensor's own name; the first row that fits decides:\n");
  for (const RoleRule& rule : role_rules()) fmt::print("  {:<12} {}\n", rule.name, rule.patterns);
  if (!plan.rules.empty()) fmt::print("\nRules; the first that fits decides:\n");
  for (const PlanRule& rule : plan.rules)
    fmt::print("  {:<12} {} -> {}\n", origin_text(rule), escape(rule.rule.text()), name_of(rule.rule.preset));
  if (plan.budget) print_budget(*plan.budget);
  print_decisions(model, plan);
  for (const std::string& note : model.notes()) fmt::print("  note: {}\n", note);
  fmt::print("\n");
}

void print_summary(const Finished& finished) {
  const ConvertReport& report = finished.report;
  fmt::print("{}: {} tensors, {} -> {}, ratio {:.2f}, {:.2f} bits/weight\n", escape(finished.destination),
             report.tensors.size(), format_bytes(report.source_bytes), format_bytes(report.stored_bytes),
             ratio_of(report), report.bits_per_weight());
  if (finished.plan.budget) {
    const BudgetPlan& budget = *finished.plan.budget;
    const std::string reached = budget.bits_per_weight ? fmt::format("{:.3f}", report.bits_per_weight())
                                                       : fmt::format("{} bytes", report.file_bytes);
    fmt::print("wanted {}, reached {}{}\n", wanted_text(budget), reached,
               budget.all_best ? ": every tensor has its best candidate" : "");
  }
  print_source_codes(finished);
  fmt::print("root {}\n", to_hex(report.root));
}

void print_document(const Finished& finished) {
  const ConvertReport& report = finished.report;
  ordered_json out{{"schema", "cdna.convert/1"}, {"destination", finished.destination}, {"root", to_hex(report.root)}};
  out["totals"] = {{"tensors", report.tensors.size()},
                   {"source_bytes", report.source_bytes},
                   {"stored_bytes", report.stored_bytes},
                   {"bits_per_weight", report.bits_per_weight()},
                   {"file_bytes", report.file_bytes}};
  out["budget"] = budget_json(finished);
  out["rules"] = ordered_json::array();
  for (const PlanRule& rule : finished.plan.rules) {
    ordered_json item = ordered_json::parse(rule.rule.json());
    item["origin"] = origin_text(rule);
    out["rules"].push_back(std::move(item));
  }
  out["tensors"] = ordered_json::array();
  for (std::size_t i = 0; i < finished.plan.tensors.size(); ++i) out["tensors"].push_back(tensor_json(finished, i));
  out["notes"] = ordered_json::array();
  for (const std::string& note : report.notes) out["notes"].push_back(note_with_option_names(note));
  tools::print_json(out);
}

}  // namespace cdna::tools
