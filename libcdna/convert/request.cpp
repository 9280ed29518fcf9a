// What options say, checked before any model is read.
#include "libcdna/convert/request.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

#include "libcdna/convert/json_text.hpp"
#include "libcdna/convert/number_text.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::string_view kDefaultCandidates = "cb4g32 cb5g32 cb6g64 cb8 cb8g64 exact-z exact";
constexpr std::uint64_t kBytesEnd = std::uint64_t{1} << 53;  // Up to here f64 counts bytes.

// Of a field of ConvertOptions.
Error wrong(const std::string& field, const std::string& message) {
  return fail(Code::bad_argument, "", field + " " + message);
}

void apply_nonfinite(const ConvertOptions& options, Preset& preset) {
  if (preset.method == Preset::Method::codebook && options.nonfinite == Nonfinite::exact)
    preset.codebook.nonfinite = Nonfinite::exact;
}

Result<Preset> preset_of(const ConvertOptions& options, const std::string& field, std::string_view text) {
  auto preset = parse_preset(text);
  if (!preset && preset.error().code == Code::bad_argument) return wrong(field, preset.error().message);
  if (!preset) return preset;
  apply_nonfinite(options, *preset);
  return preset;
}

// Presets with spaces between them; each once.
Result<void> add_candidates(const ConvertOptions& options, std::string_view list, std::vector<Preset>& candidates) {
  while (!list.empty()) {
    const std::size_t end = std::min(list.find(' '), list.size());
    const std::string_view text = list.substr(0, end);
    list.remove_prefix(std::min(end + 1, list.size()));
    if (text.empty()) continue;
    auto preset = preset_of(options, "candidates", text);
    if (!preset) return std::move(preset).error();
    if (std::find(candidates.begin(), candidates.end(), *preset) == candidates.end()) candidates.push_back(*preset);
  }
  return {};
}

Result<void> parse_candidates(const ConvertOptions& options, ConvertRequest& request) {
  if (options.candidates.empty()) return add_candidates(options, kDefaultCandidates, request.candidates);
  for (const std::string& list : options.candidates) {
    if (auto result = add_candidates(options, list, request.candidates); !result) return result;
  }
  if (request.candidates.empty()) return wrong("candidates", "names no preset");
  return {};
}

Result<void> parse_budget(const ConvertOptions& options, ConvertRequest& request) {
  if (options.bits_per_weight) {
    const double bits = *options.bits_per_weight;
    if (!(bits > 0) || !(bits <= 64)) return wrong("bits_per_weight", number_text(bits) + ": above 0, at most 64");
  }
  if (options.target_bytes) {
    const std::uint64_t bytes = *options.target_bytes;
    if (bytes == 0 || bytes >= kBytesEnd) return wrong("target_bytes", std::to_string(bytes) + ": above 0, below 2^53");
    if (options.bits_per_weight) return wrong("target_bytes", "and bits_per_weight: only one of them");
  }
  request.bits_per_weight = options.bits_per_weight;
  request.target_bytes = options.target_bytes;
  if (!request.has_budget() && !options.candidates.empty())
    return wrong("candidates", "needs bits_per_weight or target_bytes");
  return {};
}

Result<void> add_policy(const ConvertOptions& options, ConvertRequest& request) {
  auto rules = parse_policy(options.policy);
  if (!rules) {
    rules.error().file = options.policy_file;
    return std::move(rules).error();
  }
  for (std::size_t i = 0; i < rules->size(); ++i) {
    PolicyRule& rule = (*rules)[i];
    apply_nonfinite(options, rule.preset);
    request.rules.push_back({PlanRule::Origin::policy, i + 1, std::move(rule)});
  }
  return {};
}

Result<void> add_encoding(const ConvertOptions& options, ConvertRequest& request) {
  if (request.has_budget() || !options.policy.empty()) {
    CDNA_CHECK(options.encoding == "exact", Code::bad_argument, "", "encoding is not for a policy or a budget");
    return {};
  }
  const Preset preset = CDNA_TRY(preset_of(options, "encoding", options.encoding));
  request.rules.push_back({PlanRule::Origin::encoding, 0, {{}, {}, preset}});
  return {};
}

}  // namespace

Result<ConvertRequest> parse_request(const ConvertOptions& options) {
  ConvertRequest request;
  for (const std::string& glob : options.keep_exact) {
    CDNA_CHECK(glob.find('\0') == std::string::npos, Code::bad_argument, "", "keep_exact has a NUL");
    request.rules.push_back({PlanRule::Origin::keep_exact, 0, {{glob}, {}, {}}});
  }
  if (options.embeddings) {
    const Preset preset = CDNA_TRY(preset_of(options, "embeddings", *options.embeddings));
    request.rules.push_back({PlanRule::Origin::embeddings, 0, {{}, {Role::embedding, Role::output_head}, preset}});
  }
  if (!options.policy.empty()) CDNA_TRY(add_policy(options, request));
  CDNA_TRY(parse_budget(options, request));
  if (request.has_budget()) CDNA_TRY(parse_candidates(options, request));
  CDNA_TRY(add_encoding(options, request));
  return request;
}

std::string recorded_options(const ConvertOptions& options, const ConvertRequest& request) {
  JsonObject recorded;
  std::vector<std::string> policy;
  for (const PlanRule& rule : request.rules) {
    if (rule.origin == PlanRule::Origin::policy) policy.push_back(rule.rule.json());
    if (rule.origin == PlanRule::Origin::encoding) recorded.add("encoding", json_string(options.encoding));
    if (rule.origin == PlanRule::Origin::embeddings) recorded.add("embeddings", json_string(name_of(rule.rule.preset)));
  }
  if (!policy.empty()) recorded.add("policy", "{\"rules\":" + json_list(policy) + "}");
  if (request.bits_per_weight) recorded.add("bits_per_weight", json_number(*request.bits_per_weight));
  if (request.target_bytes) recorded.add("target_bytes", std::to_string(*request.target_bytes));
  std::vector<std::string> candidates;
  for (const Preset& preset : request.candidates) candidates.push_back(name_of(preset));
  if (!candidates.empty()) recorded.add("candidates", json_strings(candidates));
  recorded.add("codec", json_string(name_of(options.codec)));
  recorded.add("keep_exact", json_strings(options.keep_exact));
  recorded.add("nonfinite", options.nonfinite == Nonfinite::exact ? "\"exact\"" : "\"refuse\"");
  return recorded.text();
}

Result<void> check(const ConvertOptions& options) {
  return no_throw([&]() -> Result<void> {
    CDNA_TRY(parse_request(options));
    return {};
  });
}

}  // namespace cdna
