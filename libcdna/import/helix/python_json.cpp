// A recursive-descent parser and the writer of json.dumps.
#include "libcdna/import/helix/python_json.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "libcdna/format/utf8.hpp"
#include "libcdna/import/json.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

using Kind = PythonJson::Kind;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

void append_code_point(std::string& out, std::uint32_t point) {
  const auto byte = [&out](std::uint32_t value) { out.push_back(static_cast<char>(value)); };
  if (point < 0x80) return byte(point);
  if (point < 0x800) {
    byte(0xC0 | point >> 6);
  } else if (point < 0x10000) {
    byte(0xE0 | point >> 12);
    byte(0x80 | (point >> 6 & 0x3F));
  } else {
    byte(0xF0 | point >> 18);
    byte(0x80 | (point >> 12 & 0x3F));
    byte(0x80 | (point >> 6 & 0x3F));
  }
  byte(0x80 | (point & 0x3F));
}

// Of two equal keys the last value counts, in the place of the first.
void drop_duplicates(PythonJson& object) {
  std::vector<std::size_t> order(object.keys.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return object.keys[a] < object.keys[b]; });
  std::vector<bool> dropped(object.keys.size());
  bool any = false;
  for (std::size_t i = 0; i + 1 < order.size(); ++i) {
    if (object.keys[order[i]] != object.keys[order[i + 1]]) continue;
    std::swap(object.items[order[i]], object.items[order[i + 1]]);
    dropped[order[i + 1]] = any = true;
    order[i + 1] = order[i];
  }
  if (!any) return;
  std::size_t kept = 0;
  for (std::size_t i = 0; i < dropped.size(); ++i) {
    if (dropped[i]) continue;
    if (kept != i) {
      object.keys[kept] = std::move(object.keys[i]);
      object.items[kept] = std::move(object.items[i]);
    }
    ++kept;
  }
  object.keys.resize(kept);
  object.items.resize(kept);
}

// What a decimal number is that no double holds: nothing or infinite, by its power of ten.
double beyond_double(std::string_view text) {
  const bool is_negative = text.starts_with('-');
  if (is_negative) text.remove_prefix(1);
  const std::size_t e = text.find_first_of("eE");
  const std::string_view mantissa = text.substr(0, e);
  const std::size_t point = std::min(mantissa.find('.'), mantissa.size());
  const std::size_t first = mantissa.find_first_not_of("0.");
  const double zero = is_negative ? -0.0 : 0.0;
  if (first == std::string_view::npos) return zero;
  bool falls = first > point;  // Without an exponent.
  if (e != std::string_view::npos) {
    std::string_view power = text.substr(e + 1);
    const bool is_small = power.starts_with('-');
    if (power.starts_with('-') || power.starts_with('+')) power.remove_prefix(1);
    std::int64_t value = 0;
    const auto read = std::from_chars(power.data(), power.data() + power.size(), value);
    constexpr std::int64_t kFar = std::int64_t{1} << 60;  // Farther than a text can be long.
    if (read.ec != std::errc() || value > kFar) value = kFar;
    const std::int64_t place = static_cast<std::int64_t>(point) - static_cast<std::int64_t>(first);
    falls = place + (is_small ? -value : value) <= 0;
  }
  if (falls) return zero;
  return is_negative ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Result<PythonJson> parse() {
    PythonJson value;
    CDNA_TRY(read_value(value, 0));
    skip_space();
    if (at_ != text_.size()) return wrong("text after the value");
    return value;
  }

 private:
  Error wrong(std::string message) const { return fail(Code::malformed, "", "not JSON: " + std::move(message), at_); }
  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r'))
      ++at_;
  }
  bool take(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  Result<void> read_value(PythonJson& value, std::size_t depth) {
    CDNA_CHECK(depth <= kJsonDepthMax, Code::limit, "",
               "values nested more than " + std::to_string(kJsonDepthMax) + " deep", at_);
    CDNA_CHECK(++values_ <= kPythonJsonValuesMax, Code::limit, "",
               "over " + std::to_string(kPythonJsonValuesMax) + " values", at_);
    skip_space();
    if (at_ == text_.size()) return wrong("it ends where a value should be");
    if (take("{")) return read_object(value, depth);
    if (take("[")) return read_array(value, depth);
    if (take("\"")) {
      value.kind = Kind::string;
      return read_string(value.text);
    }
    return read_word(value);
  }

  Result<void> read_word(PythonJson& value) {
    if (take("null")) return {};
    const bool is_true = take("true");
    if (is_true || take("false")) {
      value.kind = Kind::boolean;
      value.boolean = is_true;
      return {};
    }
    value.kind = Kind::real;
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    value.real = kInfinity;
    if (take("Infinity")) return {};
    value.real = -kInfinity;
    if (take("-Infinity")) return {};
    value.real = std::numeric_limits<double>::quiet_NaN();
    if (take("NaN")) return {};
    return read_number(value);
  }

  bool take_digits() {
    const std::size_t begin = at_;
    while (at_ < text_.size() && is_digit(text_[at_])) ++at_;
    return at_ != begin;
  }

  Result<void> read_number(PythonJson& value) {
    const std::size_t begin = at_;
    take("-");
    if (!take("0") && !take_digits()) return wrong("no value");
    bool is_real = false;
    if (take(".")) {
      is_real = true;
      if (!take_digits()) return wrong("a point without digits");
    }
    if (take("e") || take("E")) {
      is_real = true;
      if (!take("-")) take("+");
      if (!take_digits()) return wrong("an exponent without digits");
    }
    const std::string_view number = text_.substr(begin, at_ - begin);
    if (!is_real) {
      value.kind = Kind::integer;
      value.text = number == "-0" ? "0" : std::string(number);
      return {};
    }
    const auto read = std::from_chars(number.data(), number.data() + number.size(), value.real);
    if (read.ec == std::errc::result_out_of_range) value.real = beyond_double(number);
    return {};
  }

  Result<void> read_array(PythonJson& value, std::size_t depth) {
    value.kind = Kind::array;
    skip_space();
    if (take("]")) return {};
    for (;;) {
      PythonJson item;
      CDNA_TRY(read_value(item, depth + 1));
      value.items.push_back(std::move(item));
      skip_space();
      if (take("]")) return {};
      if (!take(",")) return wrong("',' or ']' is missing");
    }
  }

  Result<void> read_object(PythonJson& value, std::size_t depth) {
    value.kind = Kind::object;
    skip_space();
    if (take("}")) return {};
    for (;;) {
      skip_space();
      if (!take("\"")) return wrong("a key is missing");
      std::string key;
      CDNA_TRY(read_string(key));
      skip_space();
      if (!take(":")) return wrong("':' is missing");
      PythonJson item;
      CDNA_TRY(read_value(item, depth + 1));
      value.keys.push_back(std::move(key));
      value.items.push_back(std::move(item));
      skip_space();
      if (take("}")) break;
      if (!take(",")) return wrong("',' or '}' is missing");
    }
    drop_duplicates(value);
    return {};
  }

  // Behind the opening quote.
  Result<void> read_string(std::string& out) {
    for (;;) {
      if (at_ == text_.size()) return wrong("a string without end");
      const char c = text_[at_];
      if (static_cast<unsigned char>(c) < 0x20) return wrong("a control character in a string");
      ++at_;
      if (c == '"') return {};
      if (c != '\\') {
        out.push_back(c);
        continue;
      }
      CDNA_TRY(read_escape(out));
    }
  }

  Result<void> read_escape(std::string& out) {
    constexpr std::string_view kLetters = "\"\\/bfnrt";
    constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
    if (at_ == text_.size()) return wrong("a string without end");
    const char c = text_[at_++];
    if (const std::size_t letter = kLetters.find(c); letter != std::string_view::npos) {
      out.push_back(kMeanings[letter]);
      return {};
    }
    if (c != 'u') return wrong("an unknown escape");
    std::uint32_t point = CDNA_TRY(read_hex());
    const bool is_high = point >= 0xD800 && point < 0xDC00;
    if (is_high && text_.substr(at_, 2) == "\\u") {
      const std::size_t back = at_;
      at_ += 2;
      const std::uint32_t low = CDNA_TRY(read_hex());
      if (low >= 0xDC00 && low < 0xE000) {
        point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
      } else {
        at_ = back;
      }
    }
    append_code_point(out, point);
    return {};
  }

  Result<std::uint32_t> read_hex() {
    std::uint32_t value = 0;
    const std::string_view digits = text_.substr(at_, 4);
    const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    if (digits.size() < 4 || read.ptr != digits.data() + 4 || digits.front() == '-')
      return wrong("four hexadecimal digits are missing");
    at_ += 4;
    return value;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  std::size_t values_ = 0;
};

void append_escaped(std::string& out, std::uint32_t unit) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  out += "\\u";
  for (int shift = 12; shift >= 0; shift -= 4) out.push_back(kDigits[unit >> shift & 15]);
}

// Takes the code point at `at`; `text` is UTF-8, or has three bytes for a lone surrogate.
std::uint32_t take_code_point(std::string_view text, std::size_t& at) {
  const auto byte = [&] { return static_cast<unsigned char>(text[at++]); };
  const std::uint32_t lead = byte();
  const int more = lead < 0x80 ? 0 : lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
  std::uint32_t point = more == 0 ? lead : lead & (0x3FU >> more);
  for (int i = 0; i < more; ++i) point = point << 6 | (byte() & 0x3FU);
  return point;
}

class Writer {
 public:
  Writer(JsonSpaces spaces, std::string& out) : spaces_(spaces), out_(out) {}

  void write(const PythonJson& value, std::string_view left_out) {
    switch (value.kind) {
      case Kind::null:
        out_ += "null";
        return;
      case Kind::boolean:
        out_ += value.boolean ? "true" : "false";
        return;
      case Kind::integer:
        out_ += value.text;
        return;
      case Kind::real:
        out_ += python_float_text(value.real);
        return;
      case Kind::string:
        return write_string(value.text);
      case Kind::array:
        return write_array(value);
      case Kind::object:
        return write_object(value, left_out);
    }
  }

 private:
  void separate(bool& is_first) {
    if (!is_first) out_ += spaces_ == JsonSpaces::compact ? "," : ", ";
    is_first = false;
  }

  void write_array(const PythonJson& value) {
    bool is_first = true;
    out_ += '[';
    for (const PythonJson& item : value.items) {
      separate(is_first);
      write(item, {});
    }
    out_ += ']';
  }

  void write_object(const PythonJson& value, std::string_view left_out) {
    std::vector<std::size_t> order(value.keys.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return value.keys[a] < value.keys[b]; });
    bool is_first = true;
    out_ += '{';
    for (const std::size_t i : order) {
      if (!left_out.empty() && value.keys[i] == left_out) continue;
      separate(is_first);
      write_string(value.keys[i]);
      out_ += spaces_ == JsonSpaces::compact ? ":" : ": ";
      write(value.items[i], {});
    }
    out_ += '}';
  }

  void write_string(std::string_view text) {
    constexpr std::string_view kLetters = "\"\\bfnrt";
    constexpr std::string_view kMeanings = "\"\\\b\f\n\r\t";
    out_ += '"';
    for (std::size_t at = 0; at < text.size();) {
      const std::uint32_t point = take_code_point(text, at);
      const std::size_t letter = point < 0x80 ? kMeanings.find(static_cast<char>(point)) : std::string_view::npos;
      if (letter != std::string_view::npos) {
        out_ += '\\';
        out_ += kLetters[letter];
      } else if (point >= 0x20 && point < 0x7F) {
        out_ += static_cast<char>(point);
      } else if (point < 0x10000) {
        append_escaped(out_, point);
      } else {
        append_escaped(out_, 0xD800 + ((point - 0x10000) >> 10));
        append_escaped(out_, 0xDC00 + (point & 0x3FF));
      }
    }
    out_ += '"';
  }

  JsonSpaces spaces_;
  std::string& out_;
};

}  // namespace

const PythonJson* PythonJson::find(std::string_view key) const {
  const auto found = std::find(keys.begin(), keys.end(), key);
  return found == keys.end() ? nullptr : &items[static_cast<std::size_t>(found - keys.begin())];
}

std::optional<std::uint64_t> PythonJson::as_size() const {
  if (kind != Kind::integer) return std::nullopt;
  std::uint64_t value = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
  if (read.ec != std::errc() || read.ptr != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<double> PythonJson::as_number() const {
  if (kind == Kind::real) return real;
  if (kind != Kind::integer) return std::nullopt;
  if (const auto size = as_size()) return static_cast<double>(*size);
  std::int64_t value = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
  if (read.ec != std::errc()) return std::nullopt;
  return static_cast<double>(value);
}

std::optional<std::uint64_t> PythonJson::size_of(std::string_view key) const {
  const PythonJson* const value = find(key);
  return value == nullptr ? std::nullopt : value->as_size();
}

std::optional<std::string> PythonJson::string_of(std::string_view key) const {
  const PythonJson* const value = find(key);
  if (value == nullptr || value->kind != Kind::string) return std::nullopt;
  return value->text;
}

std::optional<bool> PythonJson::boolean_of(std::string_view key) const {
  const PythonJson* const value = find(key);
  if (value == nullptr || value->kind != Kind::boolean) return std::nullopt;
  return value->boolean;
}

std::optional<std::vector<std::uint64_t>> PythonJson::sizes_of(std::string_view key) const {
  const PythonJson* const value = find(key);
  if (value == nullptr || value->kind != Kind::array) return std::nullopt;
  std::vector<std::uint64_t> sizes;
  for (const PythonJson& item : value->items) {
    const auto size = item.as_size();
    if (!size) return std::nullopt;
    sizes.push_back(*size);
  }
  return sizes;
}

Result<PythonJson> parse_python_json(std::string_view text) {
  CDNA_CHECK(is_utf8(text), Code::malformed, "", "not JSON: bytes that are not UTF-8", 0);
  return Parser(text).parse();
}

std::string dump_sorted(const PythonJson& value, JsonSpaces spaces, std::string_view left_out) {
  std::string out;
  Writer(spaces, out).write(value, left_out);
  return out;
}

std::string python_float_text(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  std::array<char, 32> buffer;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::scientific);
  const std::string_view shortest(buffer.data(), static_cast<std::size_t>(end.ptr - buffer.data()));
  const std::size_t e = shortest.find('e');
  const std::string_view power = shortest.substr(e + 1);
  int exponent = 0;
  const std::size_t sign = power.front() == '+' ? 1 : 0;
  std::from_chars(power.data() + sign, power.data() + power.size(), exponent);
  constexpr int kFixedFrom = -4;  // float_repr_style "short": format code 'r' of CPython's PyOS_double_to_string.
  constexpr int kFixedBelow = 16;
  if (exponent < kFixedFrom || exponent >= kFixedBelow) return std::string(shortest);
  const auto fixed = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::fixed);
  std::string text(buffer.data(), static_cast<std::size_t>(fixed.ptr - buffer.data()));
  if (text.find('.') == std::string::npos) text += ".0";
  return text;
}

}  // namespace cdna
