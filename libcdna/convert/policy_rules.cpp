// Strict: every key, type and value that is not in the table of tools/README.md is an error.
#include "libcdna/convert/policy_rules.hpp"

#include <fnmatch.h>
#include <locale.h>

#include <algorithm>
#include <optional>
#include <set>
#include <span>
#include <utility>

#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

using nlohmann::ordered_json;

constexpr std::size_t kRulesMax = 256;
constexpr std::size_t kGlobsMax = 1024;
constexpr int kDepthMax = 8;
constexpr std::size_t kShownMax = 100;  // Of a text from the file, in messages.

Error wrong(std::string message, Code code = Code::malformed) { return fail(code, "", std::move(message)); }

std::string shown(std::string_view text) {
  return "'" + std::string(text.substr(0, kShownMax)) + (text.size() > kShownMax ? "...'" : "'");
}

// "'TEXT': RIGHT" with a long text cut.
std::string with_short_quote(const std::string& message) {
  const std::size_t end = message.rfind("': ");
  if (end == std::string::npos || end <= kShownMax) return message;
  return message.substr(0, kShownMax) + "..." + message.substr(end);
}

// The parser's own words without its position in lines and the piece of the file that it quotes.
std::string reason_of(std::string_view what) {
  const std::size_t tag = what.find("] ");
  if (tag != std::string_view::npos) what.remove_prefix(tag + 2);
  return std::string(what.substr(0, what.find("; last read")).substr(0, 2 * kShownMax));
}

// The document; keys that occur twice and deep nesting, which the parser lets through, are errors.
Result<ordered_json> parse(std::string_view text) {
  if (text.starts_with("\xEF\xBB\xBF")) return wrong("not JSON: a byte order mark");
  if (text.find('\0') != std::string_view::npos) return wrong("not JSON: a NUL byte");
  std::optional<Error> fault;
  std::vector<std::set<std::string>> keys;  // Of each open object.
  using Event = ordered_json::parse_event_t;
  const auto watch = [&](int depth, Event event, ordered_json& parsed) {
    if (depth > kDepthMax && !fault) fault = wrong("values nested more than 8 deep", Code::limit);
    if (depth > kDepthMax) return false;  // Not kept.
    if (event == Event::object_start) keys.emplace_back();
    if (event == Event::object_end) keys.pop_back();
    if (event == Event::key && !keys.back().insert(parsed.get<std::string>()).second && !fault)
      fault = wrong("the key " + shown(parsed.get<std::string>()) + " occurs twice in one object");
    return true;
  };
  try {
    ordered_json document = ordered_json::parse(text, watch);
    if (fault) return *std::move(fault);
    return document;
  } catch (const ordered_json::exception& exception) {
    return wrong("not JSON: " + reason_of(exception.what()));
  }
}

Result<void> check_keys(const ordered_json& object, std::span<const std::string_view> keys, const std::string& right) {
  for (const auto& [key, value] : object.items()) {
    if (std::find(keys.begin(), keys.end(), key) == keys.end())
      return wrong("unknown key " + shown(key) + ": " + right);
  }
  return {};
}

// A string, or a list of at least one.
Result<std::vector<std::string>> strings_of(const ordered_json& value, const std::string& key) {
  const std::string right = "'" + key + "' is a string or a list of strings, at least one, none empty";
  std::vector<std::string> strings;
  if (!value.is_string() && !value.is_array()) return wrong(right);
  const ordered_json list = value.is_string() ? ordered_json::array({value}) : value;
  for (const ordered_json& each : list) {
    if (!each.is_string() || each.get_ref<const std::string&>().empty()) return wrong(right);
    strings.push_back(each.get<std::string>());
  }
  if (strings.empty()) return wrong(right);
  return strings;
}

Result<Role> role_called(const std::string& name) {
  std::string names;
  for (const RoleRule& rule : role_rules()) {
    if (rule.name == name) return rule.role;
    names += (names.empty() ? "" : ", ") + std::string(rule.name);
  }
  return wrong("'role' " + shown(name) + ": roles are " + names);
}

Result<PolicyRule> rule_of(const ordered_json& value) {
  static constexpr std::array<std::string_view, 3> kKeys{"glob", "role", "preset"};
  if (!value.is_object()) return wrong("a rule is an object {\"glob\": ..., \"role\": ..., \"preset\": ...}");
  CDNA_TRY(check_keys(value, kKeys, "a rule has 'preset', and may have 'glob' and 'role'"));
  PolicyRule rule;
  if (value.contains("glob")) {
    auto globs = strings_of(value["glob"], "glob");
    if (!globs) return std::move(globs).error();
    const auto ends = [](const std::string& glob) { return glob.find('\0') != std::string::npos; };
    if (std::any_of(globs->begin(), globs->end(), ends)) return wrong("'glob' has a NUL");
    rule.globs = *std::move(globs);
  }
  if (value.contains("role")) {
    auto names = strings_of(value["role"], "role");
    if (!names) return std::move(names).error();
    for (const std::string& name : *names) {
      auto role = role_called(name);
      if (!role) return std::move(role).error();
      rule.roles.push_back(*role);
    }
  }
  if (!value.contains("preset") || !value["preset"].is_string())
    return wrong("a rule needs 'preset', a string like \"cb8g64\" or \"exact\"");
  auto preset = parse_preset(value["preset"].get_ref<const std::string&>());
  if (!preset && preset.error().code == Code::bad_argument)
    return wrong("'preset' " + with_short_quote(preset.error().message));
  if (!preset) return std::move(preset).error();
  rule.preset = *preset;
  return rule;
}

}  // namespace

bool PolicyRule::matches(std::string_view tensor_name, Role role) const {
  const auto fits = [tensor_name](const std::string& glob) { return matches_glob(glob, tensor_name); };
  if (!roles.empty() && std::find(roles.begin(), roles.end(), role) == roles.end()) return false;
  return globs.empty() || std::any_of(globs.begin(), globs.end(), fits);
}

std::string PolicyRule::text() const {
  std::string text;
  const auto add = [&text](std::string_view word, const auto& list) {
    for (std::size_t i = 0; i < list.size(); ++i) {
      text += i > 0 ? "|" : (text.empty() ? "" : ", ") + std::string(word) + " ";
      text += list[i];
    }
  };
  add("glob", globs);
  std::vector<std::string_view> names;
  for (const Role role : roles) names.push_back(name_of(role));
  add("role", names);
  return text.empty() ? "all tensors" : text;
}

std::string PolicyRule::json() const { return text_of(to_json(*this)); }

nlohmann::ordered_json to_json(const PolicyRule& rule) {
  nlohmann::ordered_json out = nlohmann::ordered_json::object();
  if (!rule.globs.empty()) out["glob"] = rule.globs;
  for (const Role role : rule.roles) out["role"].push_back(name_of(role));
  out["preset"] = name_of(rule.preset);
  return out;
}

std::string text_of(const nlohmann::ordered_json& document) {
  return document.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

namespace {

Result<std::vector<PolicyRule>> rules_of(std::string_view text) {
  static constexpr std::array<std::string_view, 1> kKeys{"rules"};
  if (text.size() > kPolicyBytesMax) return wrong("a policy file has at most 1 MiB", Code::limit);
  auto document = parse(text);
  if (!document) return std::move(document).error();
  const std::string right = "a policy is {\"rules\": [...]} with at least one rule";
  if (!document->is_object()) return wrong(right);
  if (auto keys = check_keys(*document, kKeys, right); !keys) return std::move(keys).error();
  if (!document->contains("rules") || !(*document)["rules"].is_array() || (*document)["rules"].empty())
    return wrong(right);
  const ordered_json& list = (*document)["rules"];
  if (list.size() > kRulesMax) return wrong("over " + std::to_string(kRulesMax) + " rules", Code::limit);
  std::vector<PolicyRule> rules;
  std::size_t globs = 0;
  for (const ordered_json& value : list) {
    auto rule = rule_of(value);
    if (!rule) {
      rule.error().message = "rule " + std::to_string(rules.size() + 1) + ": " + rule.error().message;
      return std::move(rule).error();
    }
    globs += rule->globs.size();
    if (globs > kGlobsMax) return wrong("over " + std::to_string(kGlobsMax) + " globs", Code::limit);
    rules.push_back(*std::move(rule));
  }
  return rules;
}

// The C locale for the calling thread, whatever the program has set: what a pattern fits shows in files.
class CLocale {
 public:
  CLocale() : before_(uselocale(c_locale())) {}
  ~CLocale() { uselocale(before_); }
  CLocale(const CLocale&) = delete;
  CLocale& operator=(const CLocale&) = delete;

 private:
  static locale_t c_locale() {
    static const locale_t locale = newlocale(LC_ALL_MASK, "C", locale_t{});  // Static storage in every C library.
    return locale;
  }
  locale_t before_;
};

}  // namespace

bool matches_glob(const std::string& pattern, std::string_view name) {
  const CLocale locale;
  return fnmatch(pattern.c_str(), std::string(name).c_str(), 0) == 0;
}

Result<std::vector<PolicyRule>> parse_policy(std::string_view text) {
  return no_throw([&] { return rules_of(text); });
}

}  // namespace cdna
