// A document over the SAX parser of nlohmann-json, with what that parser lets through refused here.
#include "libcdna/convert/policy_document.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::size_t kShownMax = 100;  // Of a text from the file, in messages.

Error wrong(std::string message, Code code = Code::malformed) { return fail(code, "", std::move(message)); }

// The parser's own words without its position in lines and the piece of the file that it quotes.
std::string reason_of(std::string_view what) {
  const std::size_t tag = what.find("] ");
  if (tag != std::string_view::npos) what.remove_prefix(tag + 2);
  return std::string(what.substr(0, what.find("; last read")).substr(0, 2 * kShownMax));
}

// Builds the document. What is no JSON is the error before all others, then what comes first. The method names are
// nlohmann's.
class Builder {
 public:
  bool null() { return add({}); }
  bool boolean(bool) { return add({}); }
  bool number_integer(std::int64_t) { return add({}); }
  bool number_unsigned(std::uint64_t) { return add({}); }
  bool number_float(double, const std::string&) { return add({}); }
  bool binary(std::vector<std::uint8_t>&) { return add({}); }  // JSON has none.
  bool string(std::string& value) { return add({PolicyValue::Kind::string, std::move(value), {}, {}}); }

  bool start_object(std::size_t) { return open(PolicyValue::Kind::object); }
  bool start_array(std::size_t) { return open(PolicyValue::Kind::list); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }
  bool key(std::string& name) {
    if (!is_within_depth()) return true;
    Open& object = open_.back();
    if (!object.keys.insert(name).second) fault("the key " + shown_in_policy(name) + " occurs twice in one object");
    object.value.keys.push_back(std::move(name));
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception& exception) {
    fault_ = wrong("not JSON: " + reason_of(exception.what()));
    return false;
  }

  Result<PolicyValue> take() {
    if (fault_) return *std::move(fault_);
    return std::move(document_);
  }

 private:
  // An object or a list whose end has not come.
  struct Open {
    PolicyValue value;
    std::set<std::string> keys;
  };

  void fault(std::string message, Code code = Code::malformed) {
    if (!fault_) fault_ = wrong(std::move(message), code);
  }

  // Whether what comes next is to be kept.
  bool is_within_depth() {
    if (depth_ > kPolicyDepthMax) fault("values nested more than 8 deep", Code::limit);
    return depth_ <= kPolicyDepthMax;
  }

  bool add(PolicyValue value) {
    if (is_within_depth()) (open_.empty() ? document_ : open_.back().value.values.emplace_back()) = std::move(value);
    return true;
  }

  bool open(PolicyValue::Kind kind) {
    if (is_within_depth()) open_.push_back({{kind, {}, {}, {}}, {}});
    ++depth_;
    return true;
  }

  bool close() {
    if (--depth_ > kPolicyDepthMax) return true;
    PolicyValue value = std::move(open_.back().value);
    open_.pop_back();
    return add(std::move(value));
  }

  PolicyValue document_;
  std::vector<Open> open_;
  int depth_ = 0;  // Also of what is not kept: a document has at most 1 MiB.
  std::optional<Error> fault_;
};

}  // namespace

const PolicyValue* PolicyValue::find(std::string_view key) const {
  const auto at = std::find(keys.begin(), keys.end(), key);
  return at == keys.end() ? nullptr : &values[static_cast<std::size_t>(at - keys.begin())];
}

Result<PolicyValue> parse_policy_document(std::string_view text) {
  if (text.starts_with("\xEF\xBB\xBF")) return wrong("not JSON: a byte order mark");
  if (text.find('\0') != std::string_view::npos) return wrong("not JSON: a NUL byte");
  Builder builder;
  nlohmann::json::sax_parse(text, &builder);
  return builder.take();
}

std::string shown_in_policy(std::string_view text) {
  return "'" + std::string(text.substr(0, kShownMax)) + (text.size() > kShownMax ? "...'" : "'");
}

}  // namespace cdna
