// Strict: every key, type and value that is not in the table of tools/README.md is an error.
#include <fnmatch.h>
#include <locale.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "cdna/convert.hpp"
#include "libcdna/convert/json_text.hpp"
#include "libcdna/convert/policy_document.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::size_t kRulesMax = 256;
constexpr std::size_t kGlobsMax = 1024;
constexpr std::size_t kShownMax = 100;  // Of a preset from the file, in messages.

Error wrong(std::string message, Code code = Code::malformed) { return fail(code, "", std::move(message)); }

// "'TEXT': RIGHT" with a long text cut.
std::string with_short_quote(const std::string& message) {
  const std::size_t end = message.rfind("': ");
  if (end == std::string::npos || end <= kShownMax) return message;
  return message.substr(0, kShownMax) + "..." + message.substr(end);
}

Result<void> check_keys(const PolicyValue& object, std::span<const std::string_view> keys, const std::string& right) {
  for (const std::string& key : object.keys) {
    if (std::find(keys.begin(), keys.end(), key) == keys.end())
      return wrong("unknown key " + shown_in_policy(key) + ": " + right);
  }
  return {};
}

// A string, or a list of at least one.
Result<std::vector<std::string>> strings_of(const PolicyValue& value, const std::string& key) {
  const std::string right = "'" + key + "' is a string or a list of strings, at least one, none empty";
  const bool is_one = value.kind == PolicyValue::Kind::string;
  if (!is_one && value.kind != PolicyValue::Kind::list) return wrong(right);
  std::vector<std::string> strings;
  for (const PolicyValue& each : is_one ? std::span(&value, 1) : std::span(value.values)) {
    if (each.kind != PolicyValue::Kind::string || each.text.empty()) return wrong(right);
    strings.push_back(each.text);
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
  return wrong("'role' " + shown_in_policy(name) + ": roles are " + names);
}

Result<PolicyRule> rule_of(const PolicyValue& value) {
  static constexpr std::array<std::string_view, 3> kKeys{"glob", "role", "preset"};
  if (value.kind != PolicyValue::Kind::object)
    return wrong("a rule is an object {\"glob\": ..., \"role\": ..., \"preset\": ...}");
  CDNA_TRY(check_keys(value, kKeys, "a rule has 'preset', and may have 'glob' and 'role'"));
  PolicyRule rule;
  if (const PolicyValue* const globs = value.find("glob"); globs != nullptr) {
    rule.globs = CDNA_TRY(strings_of(*globs, "glob"));
    const auto ends = [](const std::string& glob) { return glob.find('\0') != std::string::npos; };
    if (std::any_of(rule.globs.begin(), rule.globs.end(), ends)) return wrong("'glob' has a NUL");
  }
  if (const PolicyValue* const roles = value.find("role"); roles != nullptr) {
    const std::vector<std::string> names = CDNA_TRY(strings_of(*roles, "role"));
    for (const std::string& name : names) rule.roles.push_back(CDNA_TRY(role_called(name)));
  }
  const PolicyValue* const name = value.find("preset");
  if (name == nullptr || name->kind != PolicyValue::Kind::string)
    return wrong("a rule needs 'preset', a string like \"cb8g64\" or \"exact\"");
  auto preset = parse_preset(name->text);
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

std::string PolicyRule::json() const {
  JsonObject out;
  if (!globs.empty()) out.add("glob", json_strings(globs));
  std::vector<std::string> names;
  for (const Role role : roles) names.emplace_back(name_of(role));
  if (!names.empty()) out.add("role", json_strings(names));
  out.add("preset", json_string(name_of(preset)));
  return out.text();
}

namespace {

Result<std::vector<PolicyRule>> rules_of(std::string_view text) {
  static constexpr std::array<std::string_view, 1> kKeys{"rules"};
  if (text.size() > kPolicyBytesMax) return wrong("a policy file has at most 1 MiB", Code::limit);
  const PolicyValue document = CDNA_TRY(parse_policy_document(text));
  const std::string right = "a policy is {\"rules\": [...]} with at least one rule";
  if (document.kind != PolicyValue::Kind::object) return wrong(right);
  CDNA_TRY(check_keys(document, kKeys, right));
  const PolicyValue* const list = document.find("rules");
  if (list == nullptr || list->kind != PolicyValue::Kind::list || list->values.empty()) return wrong(right);
  if (list->values.size() > kRulesMax) return wrong("over " + std::to_string(kRulesMax) + " rules", Code::limit);
  std::vector<PolicyRule> rules;
  std::size_t globs = 0;
  for (const PolicyValue& value : list->values) {
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
