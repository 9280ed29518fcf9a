// Rules to decisions, tied tensors to aliases.
#include <algorithm>
#include <memory>
#include <utility>

#include "cdna/convert.hpp"
#include "libcdna/convert/budget.hpp"
#include "libcdna/convert/counting_sink.hpp"
#include "libcdna/convert/request.hpp"
#include "libcdna/convert/tied_tensors.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::size_t kRuleTextMax = 200;  // Characters of a rule's text within a note.

// How often each rule fits a tensor, and how often it decides.
struct RuleUse {
  std::size_t matches = 0;
  std::size_t decides = 0;
};

Decision decide_by(const PlanRule& rule, const ModelTensor& tensor) {
  Decision decision = decide(rule.rule.preset, tensor.name, tensor.dtype, tensor.shape, rule.rule.asked());
  if (rule.origin == PlanRule::Origin::keep_exact) decision.reason = "keep_exact " + escape(rule.rule.globs.front());
  return decision;
}

// Codes of a source are decoded, and encoded anew, for who asks it of these tensors: each time costs some precision.
bool names_tensors(const ConvertRequest& request, const std::optional<std::size_t>& rule) {
  return rule && request.rules[*rule].rule.asked() == Asked::by_name;
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
  if (tensor.is_encoded && !names_tensors(request, plan.rule)) {
    plan.decision.preset = {Preset::Method::source, {}};
    plan.decision.reason = "codes of the source, as they are";
  }
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

// "policy.json: rule 2", "rule 2", "embeddings".
std::string place_of(const ConvertOptions& options, const PlanRule& rule) {
  if (rule.origin == PlanRule::Origin::embeddings) return "embeddings";
  return (options.policy_file.empty() ? "" : options.policy_file + ": ") + "rule " + std::to_string(rule.number);
}

Result<void> check_use(const ConvertOptions& options, const ConvertRequest& request, const std::vector<RuleUse>& uses,
                       std::vector<std::string>& notes) {
  for (std::size_t i = 0; i < uses.size(); ++i) {
    const PlanRule& rule = request.rules[i];
    const bool keeps_exact = rule.origin == PlanRule::Origin::keep_exact;
    CDNA_CHECK(!keeps_exact || uses[i].matches > 0, Code::bad_argument, "",
               "keep_exact '" + rule.rule.globs.front() + "' matches no tensor");
    if (uses[i].decides > 0 || keeps_exact || rule.origin == PlanRule::Origin::encoding) continue;
    notes.push_back(place_of(options, rule) + " (" + shown(rule.rule) + ") " +
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

// Models are also made by callers, who make mistakes.
Result<void> check_tensor(const ModelTensor& tensor) {
  CDNA_CHECK(tensor.dtype != DType::none || tensor.source_type.empty(), Code::unsupported, "",
             "its type " + escape(tensor.source_type) + " is known but not decoded");
  CDNA_CHECK(is_known(tensor.dtype), Code::bad_argument, "", "the dtype is not known");
  const bool is_empty = std::find(tensor.shape.begin(), tensor.shape.end(), 0U) != tensor.shape.end();
  std::uint64_t bits = is_empty ? 0 : bits_of(tensor.dtype);
  for (const std::uint64_t dim : tensor.shape)
    CDNA_CHECK(!__builtin_mul_overflow(bits, dim, &bits), Code::limit, "", "the tensor has 2^64 bits or more");
  const std::uint64_t bytes = bits / 8 + (bits % 8 != 0 ? 1 : 0);
  CDNA_CHECK(tensor.size_bytes == bytes, Code::bad_argument, "",
             std::to_string(tensor.size_bytes) + " bytes, where shape and dtype give " + std::to_string(bytes));
  return {};
}

Result<void> check_model(const Model& model) {
  const std::string* before = nullptr;
  for (const ModelTensor& tensor : model.tensors()) {
    auto result = check_tensor(tensor);
    if (result && before != nullptr && !(*before < tensor.name))
      result = fail(Code::bad_argument, "", "the model's names do not ascend");
    if (!result) {
      result.error().item = tensor.name;
      return result;
    }
    before = &tensor.name;
  }
  return {};
}

// A budget chooses presets, and codes that the source holds are none.
Result<void> check_budget_is_free(const ConvertRequest& request, const Model& model, const Plan& plan) {
  for (std::size_t i = 0; i < plan.tensors.size(); ++i) {
    if (plan.tensors[i].decision.preset.method != Preset::Method::source) continue;
    Error error = fail(Code::bad_argument, "",
                       std::string(request.bits_per_weight ? "bits_per_weight" : "target_bytes") +
                           " has no say in tensors that the source holds as codes; a rule of the policy that names them"
                           " decodes them and encodes them anew");
    error.item = model.tensors()[i].name;
    return error;
  }
  return {};
}

// What keeps a Writer from working here at all: CDNA_SHA256 or CDNA_CPU may ask for what this machine has not.
Result<void> check_machine() {
  std::uint64_t bytes = 0;
  CDNA_TRY(Writer::create(std::make_unique<CountingSink>(bytes)));
  return {};
}

Result<Plan> plan_for(const Model& model, const ConvertOptions& options) {
  const ConvertRequest request = CDNA_TRY(parse_request(options));
  CDNA_TRY(check_model(model));
  Plan plan;
  plan.rules = request.rules;
  plan.codec = options.codec;
  plan.recorded_options = recorded_options(options, request);
  plan.metadata = options.metadata;
  std::vector<Role> roles;
  std::vector<RuleUse> uses(request.rules.size());
  for (const ModelTensor& tensor : model.tensors()) {
    plan.tensors.push_back(plan_tensor(request, tensor, uses));
    roles.push_back(plan.tensors.back().decision.role);
  }
  CDNA_TRY(check_use(options, request, uses, plan.notes));
  const std::vector<std::optional<std::size_t>> tied_to = CDNA_TRY(find_tied_tensors(model, roles, options.stop));
  split_by_decision(plan, tied_to);
  if (request.has_budget()) {
    CDNA_TRY(check_budget_is_free(request, model, plan));
    CDNA_TRY(spend_budget(options, request, model, plan));
  }
  CDNA_TRY(check_machine());
  return plan;
}

}  // namespace

double elements_of(const ModelTensor& tensor) {
  return static_cast<double>(tensor.size_bytes) * 8 / bits_of(tensor.dtype);
}

Result<Plan> make_plan(const Model& model, const ConvertOptions& options) {
  return no_throw([&] { return plan_for(model, options); });
}

}  // namespace cdna
