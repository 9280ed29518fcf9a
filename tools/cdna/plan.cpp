// Rules to decisions, tied tensors to aliases.
#include "tools/cdna/plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "tools/cdna/budget.hpp"
#include "tools/cdna/tied_tensors.hpp"
#include "tools/text.hpp"

namespace cdna::tools {
namespace {

constexpr std::size_t kRuleTextMax = 200;  // Characters of a rule's text within a note.

// How often each rule fits a tensor, and how often it decides.
struct RuleUse {
  std::size_t matches = 0;
  std::size_t decides = 0;
};

Decision decide_by(const PlanRule& rule, const ModelTensor& tensor) {
  Decision decision = decide(rule.rule.preset, tensor.name, tensor.dtype, tensor.shape, rule.rule.asked());
  if (rule.origin == "--keep-exact") decision.reason = "--keep-exact " + escape(rule.rule.globs.front());
  return decision;
}

// Without a rule a tensor stays exact, or its preset is left to the budget.
TensorPlan plan_tensor(const ConvertRequest& request, const ModelTensor& tensor, std::vector<RuleUse>& uses) {
  TensorPlan plan;
  plan.decision.role = role_of(tensor.name, tensor.dtype, tensor.shape);
  plan.decision.reason = "no rule matches";
  for (std::size_t i = 0; i < request.rules.size(); ++i) {
    if (!request.rules[i].rule.matches(tensor.name, plan.decision.role)) continue;
    ++uses[i].matches;
    if (plan.rule) continue;
    ++uses[i].decides;
    plan.rule = i;
  }
  if (plan.rule) plan.decision = decide_by(request.rules[*plan.rule], tensor);
  return plan;
}

bool continues_character(char byte) { return (static_cast<unsigned char>(byte) & 0xC0U) == 0x80; }

std::size_t characters_of(const std::string& text) {
  return text.size() - static_cast<std::size_t>(std::count_if(text.begin(), text.end(), continues_character));
}

// A rule's text, cut so that it is not long after it has been escaped.
std::string shown(const PolicyRule& rule) {
  const std::string text = rule.text();
  for (std::size_t end = 0; end < text.size();) {
    std::size_t next = end + 1;
    while (next < text.size() && continues_character(text[next])) ++next;
    if (characters_of(escape(text.substr(0, next))) > kRuleTextMax) return text.substr(0, end) + "…";
    end = next;
  }
  return text;
}

Result<void> check_use(const ConvertOptions& options, const ConvertRequest& request, const std::vector<RuleUse>& uses,
                       std::vector<std::string>& notes) {
  for (std::size_t i = 0; i < uses.size(); ++i) {
    const PlanRule& rule = request.rules[i];
    if (rule.origin == "--keep-exact" && uses[i].matches == 0) {
      Error error;
      error.code = Code::bad_argument;
      error.message = "--keep-exact '" + rule.rule.globs.front() + "' matches no tensor";
      return error;
    }
    if (uses[i].decides > 0 || (!rule.number && rule.origin != "--embeddings")) continue;
    const std::string where = rule.number ? *options.policy + ": " + rule.origin : rule.origin;
    notes.push_back(where + " (" + shown(rule.rule) + ") " +
                    (uses[i].matches == 0 ? "matches no tensor" : "decides nothing: earlier rules match its tensors"));
  }
  return {};
}

// Tied tensors are stored once where the same was decided for them. (Where it was not, each has what it was given.)
void split_by_decision(Plan& plan, const std::vector<std::optional<std::size_t>>& tied_to) {
  const auto same = [&plan](std::size_t a, std::size_t b) {
    const TensorPlan& one = plan.tensors[a];
    const TensorPlan& other = plan.tensors[b];
    return one.rule.has_value() == other.rule.has_value() && one.decision.preset == other.decision.preset;
  };
  for (std::size_t i = 0; i < tied_to.size(); ++i) {
    if (!tied_to[i]) continue;
    for (std::size_t j = *tied_to[i]; j < i && !plan.tensors[i].alias_of; ++j) {
      const bool tied = j == *tied_to[i] || tied_to[j] == tied_to[i];
      if (tied && !plan.tensors[j].alias_of && same(i, j)) plan.tensors[i].alias_of = j;
    }
  }
}

}  // namespace

double elements_of(const ModelTensor& tensor) {
  return static_cast<double>(tensor.size_bytes) * 8 / bits_of(tensor.dtype);
}

Result<Plan> make_plan(const ConvertOptions& options, const ConvertRequest& request, const Model& model,
                       const std::atomic<bool>& stop) {
  Plan plan;
  plan.rules = request.rules;
  std::vector<Role> roles;
  std::vector<RuleUse> uses(request.rules.size());
  for (const ModelTensor& tensor : model.tensors()) {
    plan.tensors.push_back(plan_tensor(request, tensor, uses));
    roles.push_back(plan.tensors.back().decision.role);
  }
  if (auto result = check_use(options, request, uses, plan.notes); !result) return std::move(result).error();
  auto tied_to = find_tied_tensors(model, roles, stop);
  if (!tied_to) return std::move(tied_to).error();
  split_by_decision(plan, *tied_to);
  if (request.has_budget()) {
    if (auto result = spend_budget(options, request, model, stop, plan); !result) return std::move(result).error();
  }
  return plan;
}

}  // namespace cdna::tools
