// Arguments to options, and back in messages.
#include "tools/cdna/convert_arguments.hpp"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <span>
#include <string_view>
#include <utility>

#include "cdna/source.hpp"
#include "tools/cdna/size_text.hpp"

namespace cdna::tools {
namespace {

struct OptionName {
  std::string_view field;  // Of ConvertOptions.
  std::string_view option;
};

constexpr std::array<OptionName, 6> kOptionNames{{{"keep_exact", "--keep-exact"},
                                                  {"embeddings", "--embeddings"},
                                                  {"encoding", "--encoding"},
                                                  {"candidates", "--candidates"},
                                                  {"bits_per_weight", "--bits-per-weight"},
                                                  {"target_bytes", "--target-size"}}};

Error wrong(std::string message, Code code = Code::bad_argument) {
  Error error;
  error.code = code;
  error.message = std::move(message);
  return error;
}

Result<std::string> policy_text(const std::string& path) {
  auto source = open_source(path, Io::pread);
  if (!source) {
    source.error().code = Code::io;  // A folder is as little a policy as a file that is missing.
    return std::move(source).error();
  }
  const std::uint64_t size = (*source)->size_bytes();
  if (size > kPolicyBytesMax) return wrong("a policy file has at most 1 MiB", Code::limit);
  std::string text(size, '\0');
  if (auto done = (*source)->read_at(0, std::as_writable_bytes(std::span(text))); !done) return std::move(done).error();
  if (auto rules = parse_policy(text); !rules) return std::move(rules).error();
  return text;
}

Result<std::string> read_policy(const std::string& path) {
  auto text = policy_text(path);
  if (!text && text.error().file.empty()) text.error().file = path;
  return text;
}

Result<void> parse_budget(const ConvertArguments& arguments, ConvertOptions& options) {
  if (arguments.bits_per_weight) {
    const std::string& text = *arguments.bits_per_weight;
    double bits = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), bits);
    const bool whole = error == std::errc{} && end == text.data() + text.size();
    if (!whole || !(bits > 0) || !(bits <= 64))
      return wrong("--bits-per-weight '" + text + "': a number above 0, at most 64");
    options.bits_per_weight = bits;
  }
  if (arguments.target_size) {
    options.target_bytes = parse_size(*arguments.target_size);
    if (!options.target_bytes)
      return wrong("--target-size '" + *arguments.target_size +
                   "': bytes, or a number with KB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB (powers of 1024)");
  }
  return {};
}

// "target_bytes 6000000000: the least ..." to "--target-size 6GB: the least ...".
std::string with_value(std::string_view option, const std::string& value, const std::string& message) {
  const std::size_t end = message.find(':');
  return std::string(option) + " " + value + (end == std::string::npos ? "" : message.substr(end));
}

}  // namespace

// Each option is checked before the next is looked at: of several that are wrong the first is told.
Result<ConvertOptions> parse_arguments(const ConvertArguments& arguments) {
  ConvertOptions options;
  options.codec = *codec_of(arguments.codec);
  options.nonfinite = arguments.nonfinite == "exact" ? Nonfinite::exact : Nonfinite::refuse;
  options.keep_exact = arguments.keep_exact;
  options.threads = arguments.threads;
  options.embeddings = arguments.embeddings;
  const auto checked = [&]() -> Result<void> {
    auto result = check(options);
    if (!result) return with_option_names(arguments, std::move(result).error());
    return result;
  };
  if (auto result = checked(); !result) return std::move(result).error();
  if (arguments.policy) {
    auto text = read_policy(*arguments.policy);
    if (!text) return std::move(text).error();
    options.policy = *std::move(text);
    options.policy_file = *arguments.policy;
  }
  if (auto result = parse_budget(arguments, options); !result) return std::move(result).error();
  options.candidates = arguments.candidates;
  options.encoding = arguments.encoding;
  if (auto result = checked(); !result) return std::move(result).error();
  return options;
}

Error with_option_names(const ConvertArguments& arguments, Error error) {
  if (error.code != Code::bad_argument || !error.item.empty()) return error;
  if (error.message == "candidates needs bits_per_weight or target_bytes") {
    error.message = "--candidates needs --bits-per-weight or --target-size";
    return error;
  }
  for (const auto& [field, option] : kOptionNames) {
    if (!error.message.starts_with(std::string(field) + " ")) continue;
    if (field == "bits_per_weight") {
      error.message = with_value(option, arguments.bits_per_weight.value_or(""), error.message);
    } else if (field == "target_bytes") {
      error.message = with_value(option, arguments.target_size.value_or(""), error.message);
    } else {
      error.message = std::string(option) + error.message.substr(field.size());
    }
    return error;
  }
  return error;
}

std::string note_with_option_names(const std::string& note) {
  return note.starts_with("embeddings (role ") ? "--" + note : note;
}

std::string origin_text(const PlanRule& rule) {
  switch (rule.origin) {
    case PlanRule::Origin::keep_exact:
      return "--keep-exact";
    case PlanRule::Origin::embeddings:
      return "--embeddings";
    case PlanRule::Origin::encoding:
      return "--encoding";
    case PlanRule::Origin::policy:
      break;
  }
  return fmt::format("rule {}", rule.number);
}

std::string reason_text(const Plan& plan, const TensorPlan& tensor) {
  const bool keeps_exact = tensor.rule && plan.rules[*tensor.rule].origin == PlanRule::Origin::keep_exact;
  if (!keeps_exact) return tensor.decision.reason;
  return "--keep-exact " + escape(plan.rules[*tensor.rule].rule.globs.front());
}

}  // namespace cdna::tools
