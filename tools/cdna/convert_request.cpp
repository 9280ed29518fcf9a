// Checks what options say before any model is read.
#include "tools/cdna/convert_request.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "tools/cdna/size_text.hpp"
#include "tools/json.hpp"

namespace cdna::tools {
namespace {

constexpr std::string_view kDefaultCandidates = "cb4g32 cb5g32 cb6g64 cb8 cb8g64 exact-z exact";

Error wrong(const std::string& option, const std::string& message) {
  Error error;
  error.code = Code::bad_argument;
  error.message = option + " " + message;
  return error;
}

void apply_nonfinite(const ConvertOptions& options, Preset& preset) {
  if (preset.method == Preset::Method::codebook && options.nonfinite == "exact")
    preset.codebook.nonfinite = Nonfinite::exact;
}

Result<Preset> preset_of(const ConvertOptions& options, const std::string& option, std::string_view text) {
  auto preset = parse_preset(text);
  if (!preset) return wrong(option, preset.error().message);
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
    auto preset = preset_of(options, "--candidates", text);
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
  if (request.candidates.empty()) return wrong("--candidates", "names no preset");
  return {};
}

Result<void> parse_budget(const ConvertOptions& options, ConvertRequest& request) {
  if (options.bits_per_weight) {
    const std::string& text = *options.bits_per_weight;
    double bits = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), bits);
    const bool whole = error == std::errc{} && end == text.data() + text.size();
    if (!whole || !(bits > 0) || !(bits <= 64))
      return wrong("--bits-per-weight", "'" + text + "': a number above 0, at most 64");
    request.bits_per_weight = bits;
  }
  if (options.target_size) {
    request.target_bytes = parse_size(*options.target_size);
    if (!request.target_bytes)
      return wrong("--target-size", "'" + *options.target_size +
                                        "': bytes, or a number with KB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, "
                                        "TiB (powers of 1024)");
  }
  if (!request.has_budget() && !options.candidates.empty())
    return wrong("--candidates", "needs --bits-per-weight or --target-size");
  return {};
}

Result<void> add_policy(const ConvertOptions& options, ConvertRequest& request) {
  auto rules = read_policy(*options.policy);
  if (!rules) return std::move(rules).error();
  for (std::size_t i = 0; i < rules->size(); ++i) {
    PolicyRule& rule = (*rules)[i];
    apply_nonfinite(options, rule.preset);
    request.rules.push_back({fmt::format("rule {}", i + 1), i + 1, std::move(rule)});
  }
  return {};
}

std::string recorded_options(const ConvertOptions& options, const ConvertRequest& request) {
  ordered_json recorded = ordered_json::object();
  ordered_json policy = ordered_json::array();
  for (const PlanRule& rule : request.rules) {
    if (rule.number) policy.push_back(rule.rule.json());
    if (rule.origin == "--encoding") recorded["encoding"] = options.encoding;
    if (rule.origin == "--embeddings") recorded["embeddings"] = name_of(rule.rule.preset);
  }
  if (!policy.empty()) recorded["policy"] = {{"rules", policy}};
  if (request.bits_per_weight) recorded["bits_per_weight"] = *request.bits_per_weight;
  if (request.target_bytes) recorded["target_bytes"] = *request.target_bytes;
  for (const Preset& preset : request.candidates) recorded["candidates"].push_back(name_of(preset));
  recorded["codec"] = options.codec;
  recorded["keep_exact"] = options.keep_exact;
  recorded["nonfinite"] = options.nonfinite;
  return recorded.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

}  // namespace

Result<ConvertRequest> parse_request(const ConvertOptions& options) {
  ConvertRequest request;
  for (const std::string& glob : options.keep_exact) request.rules.push_back({"--keep-exact", {}, {{glob}, {}, {}}});
  if (options.embeddings) {
    auto preset = preset_of(options, "--embeddings", *options.embeddings);
    if (!preset) return std::move(preset).error();
    request.rules.push_back({"--embeddings", {}, {{}, {Role::embedding, Role::output_head}, *preset}});
  }
  if (options.policy) {
    if (auto result = add_policy(options, request); !result) return std::move(result).error();
  }
  if (auto result = parse_budget(options, request); !result) return std::move(result).error();
  if (request.has_budget()) {
    if (auto result = parse_candidates(options, request); !result) return std::move(result).error();
  } else if (!options.policy) {
    auto preset = preset_of(options, "--encoding", options.encoding);
    if (!preset) return std::move(preset).error();
    request.rules.push_back({"--encoding", {}, {{}, {}, *preset}});
  }
  return request;
}

Metadata metadata_of(const ConvertOptions& options, const ConvertRequest& request, const Model& model) {
  Metadata metadata;
  for (const auto& [key, value] : model.metadata()) metadata[key] = value;
  metadata["cdna.options"] = JsonText{recorded_options(options, request)};
  return metadata;
}

}  // namespace cdna::tools
