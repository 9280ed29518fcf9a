// read_json over the SAX parser of nlohmann-json, with what that parser lets through refused here.
#include "libcdna/import/json.hpp"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "libcdna/try.hpp"

namespace cdna {
namespace {

// Walks over the text and leaves its position where the events can see it.
class TracedIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  TracedIterator(const char* at, const char** trace) : at_(at), trace_(trace) {}
  reference operator*() const { return *at_; }
  TracedIterator& operator++() {
    *trace_ = at_++;
    return *this;
  }
  TracedIterator operator++(int) {
    TracedIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const TracedIterator& other) const { return at_ == other.at_; }
  bool operator!=(const TracedIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  const char** trace_;
};

std::string cut(std::string_view text, std::size_t size_max) {
  return text.size() <= size_max ? std::string(text) : std::string(text.substr(0, size_max)) + "...";
}

// "[json.exception.parse_error.101] parse error at line 1, column 2: REASON; last read: '...'" becomes REASON: the rest
// is the position in other words, and a piece of the file of any length.
std::string reason_of(std::string_view what) {
  const std::size_t tag = what.find("] ");
  if (tag != std::string_view::npos) what.remove_prefix(tag + 2);
  const std::size_t place = what.find(": ");
  if (what.starts_with("parse error") && place != std::string_view::npos) what.remove_prefix(place + 2);
  return cut(what.substr(0, what.find("; last read")), 100);
}

// Passes the parser's events on. The method names are nlohmann's.
class Sax {
 public:
  explicit Sax(JsonEvents& events) : events_(events) {}

  bool null() { return pass(events_.scalar({})); }
  bool boolean(bool) { return pass(events_.scalar({JsonScalar::Kind::boolean, 0, {}})); }
  // Called for what has a sign, "-0" included.
  bool number_integer(std::int64_t) { return pass(events_.scalar({JsonScalar::Kind::number, 0, {}})); }
  bool number_unsigned(std::uint64_t value) { return pass(events_.scalar({JsonScalar::Kind::size, value, {}})); }
  bool number_float(double, const std::string&) { return pass(events_.scalar({JsonScalar::Kind::number, 0, {}})); }
  bool string(std::string& value) { return pass(events_.scalar({JsonScalar::Kind::string, 0, std::move(value)})); }
  bool binary(std::vector<std::uint8_t>&) { return pass(fail(Code::malformed, "", "binary data")); }

  bool start_object(std::size_t) {
    if (!go_deeper()) return false;
    keys_.emplace_back();
    return pass(events_.begin_object());
  }
  bool key(std::string& name) {
    keys_.back().push_back(name);
    return pass(events_.key(std::move(name)));
  }
  bool end_object() {
    --depth_;
    if (!check_duplicates(keys_.back())) return false;
    keys_.pop_back();
    return pass(events_.end());
  }
  bool start_array(std::size_t) { return go_deeper() && pass(events_.begin_array()); }
  bool end_array() {
    --depth_;
    return pass(events_.end());
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception& exception) {
    return pass(fail(Code::malformed, "", "not JSON: " + reason_of(exception.what())));
  }

  Error take_error() { return std::move(error_); }

 private:
  bool pass(Result<void> result) {
    if (result) return true;
    error_ = std::move(result).error();
    return false;
  }

  bool go_deeper() {
    if (++depth_ <= kJsonDepthMax) return true;
    return pass(fail(Code::limit, "", "values nested more than " + std::to_string(kJsonDepthMax) + " deep"));
  }

  // By sorting: keys come from a stranger, who could choose them to collide in a hash table.
  bool check_duplicates(std::vector<std::string>& keys) {
    std::sort(keys.begin(), keys.end());
    const auto twin = std::adjacent_find(keys.begin(), keys.end());
    if (twin == keys.end()) return true;
    Error error = fail(Code::malformed, "", "the key " + quote(*twin) + " occurs twice in one object");
    if (keys_.size() == 1) error.item = *twin;
    return pass(std::move(error));
  }

  JsonEvents& events_;
  std::size_t depth_ = 0;
  std::vector<std::vector<std::string>> keys_;  // Of each open object.
  Error error_;
};

// The parser takes NUL for the end of its input and skips a byte order mark; neither may stand in a document.
Result<void> check_bytes(std::string_view text) {
  CDNA_CHECK(!text.starts_with("\xEF\xBB\xBF"), Code::malformed, "", "not JSON: a byte order mark", 0);
  const std::size_t nul = text.find('\0');
  CDNA_CHECK(nul == std::string_view::npos, Code::malformed, "", "not JSON: a NUL byte", nul);
  return {};
}

}  // namespace

Result<void> read_json(std::string_view text, JsonEvents& events) {
  CDNA_TRY(check_bytes(text));
  const char* const end = text.data() + text.size();
  const char* position = text.data();
  Sax sax(events);
  const TracedIterator first(text.data(), &position);
  const TracedIterator last(end, &position);
  if (nlohmann::json::sax_parse(first, last, &sax)) return {};
  Error error = sax.take_error();
  if (error.offset == kNoOffset) error.offset = static_cast<std::uint64_t>(position - text.data());
  return error;
}

std::string quote(std::string_view text) {
  std::string out(1, '"');  // Not `"\"" + ...`: g++ 12 at -O3 warns of an overlap that is not there (GCC bug 105651).
  out += cut(text, 100);
  out += '"';
  return out;
}

}  // namespace cdna
