// A parser of the few Python literals that a header has, and the writer of such a header.
#include "tools/npy.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "tools/interrupt.hpp"

namespace cdna::tools {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::uint64_t kVersionEnd = 8;            // Of magic and version.
constexpr std::uint64_t kHeaderBytesMax = 1 << 16;  // NumPy itself takes no more than 10,000.
constexpr std::size_t kDimensionsMax = 64;          // NPY_MAXDIMS of NumPy 2.
constexpr std::uint64_t kStepBytes = std::uint64_t{8} << 20;
constexpr std::uint64_t kAlignment = 64;
constexpr std::size_t kShownMax = 40;  // Of foreign text in a message.

Error fail(Code code, std::string message, std::uint64_t offset) {
  Error error;
  error.code = code;
  error.message = std::move(message);
  error.offset = offset;
  return error;
}

std::string shown(std::string_view text) {
  return fmt::format("'{}{}'", text.substr(0, kShownMax), text.size() > kShownMax ? "..." : "");
}

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

Result<DType> dtype_of_descr(std::string_view descr, std::uint64_t offset) {
  if (descr == "<f4") return DType::f32;
  if (descr == "<f2") return DType::f16;
  if (descr == "<V2" || descr == "|V2") return DType::bf16;
  std::string reason = "float32 ('<f4'), float16 ('<f2') or bfloat16 of ml_dtypes ('<V2') is wanted";
  if (descr == "<f8" || descr == ">f8") {
    reason = "float64 is not rounded here: astype(numpy.float32) does it";
  } else if (descr.starts_with(">f")) {
    reason = "big-endian: astype('<" + std::string(descr.substr(1, kShownMax)) + "') makes it little-endian";
  } else if (descr == "<u2" || descr == "<i2") {
    reason += "; bits of bfloat16 in integers: view(ml_dtypes.bfloat16)";
  }
  return fail(Code::unsupported, "dtype " + shown(descr) + ": " + reason, offset);
}

// The dict of a header.
class HeaderText {
 public:
  HeaderText(std::string_view text, std::uint64_t offset) : text_(text), offset_(offset) {}

  // Fills dtype, order and shape.
  Result<void> parse(NpyHeader& out) {
    if (auto result = expect('{'); !result) return result;
    while (!accept('}')) {
      if (auto result = parse_entry(out); !result) return result;
      if (accept(',')) continue;
      if (auto result = expect('}'); !result) return result;
      break;
    }
    skip_space();
    if (at_ != text_.size()) return bad("text after the header's dict");
    for (std::size_t i = 0; i < kKeys.size(); ++i) {
      if (!seen_[i]) return bad(fmt::format("the header has no '{}'", kKeys[i]));
    }
    return {};
  }

 private:
  static constexpr std::array<std::string_view, 3> kKeys{"descr", "fortran_order", "shape"};

  Error bad(std::string message) const { return fail(Code::malformed, std::move(message), offset_ + at_); }

  void skip_space() {
    while (at_ < text_.size() && is_space(text_[at_])) ++at_;
  }

  bool next_is(char c) {
    skip_space();
    return at_ < text_.size() && text_[at_] == c;
  }

  bool accept(char c) {
    if (!next_is(c)) return false;
    ++at_;
    return true;
  }

  Result<void> expect(char c) {
    if (!accept(c)) return bad(fmt::format("'{}' is missing in the header", c));
    return {};
  }

  Result<void> parse_entry(NpyHeader& out) {
    skip_space();
    const std::size_t begin = at_;
    auto key = parse_string();
    if (!key) return std::move(key).error();
    const auto number = static_cast<std::size_t>(std::find(kKeys.begin(), kKeys.end(), *key) - kKeys.begin());
    if (number == kKeys.size() || seen_[number]) {
      at_ = begin;
      return bad("key " + shown(*key) + (number == kKeys.size() ? " is none of a header's" : " occurs twice"));
    }
    seen_[number] = true;
    if (auto result = expect(':'); !result) return result;
    skip_space();
    if (number == 0) return parse_descr(out.dtype);
    return number == 1 ? parse_order(out.fortran_order) : parse_shape(out.shape);
  }

  // Without escapes, which no header needs.
  Result<std::string_view> parse_string() {
    if (!next_is('\'') && !next_is('"')) return bad("a string is missing in the header");
    const char quote = text_[at_];
    const std::size_t begin = at_ + 1;
    const std::size_t end = text_.find(quote, begin);
    if (end == std::string_view::npos) return bad("a string of the header has no end");
    const std::string_view string = text_.substr(begin, end - begin);
    if (string.find('\\') != std::string_view::npos) return bad("a string of the header has a backslash");
    at_ = end + 1;
    return string;
  }

  Result<void> parse_descr(DType& out) {
    const std::uint64_t begin = offset_ + at_;
    if (next_is('[') || next_is('('))
      return fail(Code::unsupported, "a structured dtype: an array of plain floats is wanted", begin);
    auto descr = parse_string();
    if (!descr) return std::move(descr).error();
    auto dtype = dtype_of_descr(*descr, begin);
    if (!dtype) return std::move(dtype).error();
    out = *dtype;
    return {};
  }

  Result<void> parse_order(bool& out) {
    out = text_.substr(at_).starts_with("True");
    const std::string_view word = out ? "True" : "False";
    if (!text_.substr(at_).starts_with(word)) return bad("'fortran_order' is neither True nor False");
    at_ += word.size();
    return {};
  }

  Result<void> parse_shape(std::vector<std::uint64_t>& out) {
    if (!accept('(')) return bad("'shape' is no tuple of sizes");
    bool after_comma = false;
    while (!accept(')')) {
      if (!out.empty() && !after_comma) return bad("',' is missing between the sizes of 'shape'");
      if (out.size() == kDimensionsMax)
        return fail(Code::limit, fmt::format("'shape' has more than {} sizes", kDimensionsMax), offset_ + at_);
      auto size = parse_dimension();
      if (!size) return std::move(size).error();
      out.push_back(*size);
      after_comma = accept(',');
    }
    if (out.size() == 1 && !after_comma) return bad("'shape' is a number, not a tuple: (3,) would be one");
    return {};
  }

  Result<std::uint64_t> parse_dimension() {
    constexpr auto kMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    skip_space();
    const std::size_t begin = at_;
    std::uint64_t size = 0;
    for (; at_ < text_.size() && is_digit(text_[at_]); ++at_) {
      const auto digit = static_cast<std::uint64_t>(text_[at_] - '0');
      if (size > (kMax - digit) / 10) return fail(Code::limit, "a size of 'shape' is 2^63 or more", offset_ + begin);
      size = 10 * size + digit;
    }
    if (at_ == begin) return bad("'shape' has something other than sizes");
    if (at_ < text_.size() && text_[at_] == 'L') ++at_;  // As Python 2 wrote them.
    return size;
  }

  std::string_view text_;
  std::uint64_t offset_;
  std::size_t at_ = 0;
  std::array<bool, 3> seen_{};
};

Result<std::string> read_text(const Source& source, std::uint64_t offset, std::uint64_t size) {
  std::string text(size, '\0');
  if (auto result = source.read_at(offset, std::as_writable_bytes(std::span(text))); !result)
    return std::move(result).error();
  return text;
}

std::uint64_t little_endian(std::string_view bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = bytes.size(); i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

// Size of the field that has the header's length.
Result<std::uint64_t> length_bytes_of(const Source& source) {
  auto begin = read_text(source, 0, std::min(kVersionEnd, source.size_bytes()));
  if (!begin) return std::move(begin).error();
  const std::string_view magic = std::string_view(*begin).substr(0, kMagic.size());
  if (magic != kMagic.substr(0, magic.size()) || magic.empty()) return fail(Code::malformed, "not a .npy file", 0);
  if (begin->size() < kVersionEnd) return fail(Code::truncated, "the file ends before the version", begin->size());
  const int major = static_cast<unsigned char>((*begin)[6]);
  const int minor = static_cast<unsigned char>((*begin)[7]);
  if (major < 1 || major > 3 || minor != 0) {
    return fail(Code::unsupported, fmt::format("version {}.{}: 1.0, 2.0 and 3.0 are known", major, minor),
                kMagic.size());
  }
  return std::uint64_t{major == 1 ? 2U : 4U};
}

// Bytes of the elements; nothing where that is 2^64 or more.
std::optional<std::uint64_t> bytes_of(const NpyHeader& header) {
  if (std::find(header.shape.begin(), header.shape.end(), 0) != header.shape.end()) return 0;
  std::uint64_t bytes = bits_of(header.dtype) / 8;
  for (const std::uint64_t size : header.shape) {
    if (size > std::numeric_limits<std::uint64_t>::max() / bytes) return std::nullopt;
    bytes *= size;
  }
  return bytes;
}

Result<void> check_size(NpyHeader& header, std::uint64_t file_bytes) {
  const std::uint64_t there = file_bytes - header.data_offset;
  const auto wanted = bytes_of(header);
  if (!wanted) return fail(Code::limit, "the array of this 'shape' has 2^64 bytes or more", header.data_offset);
  header.data_bytes = *wanted;
  if (*wanted > there) {
    return fail(Code::truncated, fmt::format("the array has {} bytes, of which the file has {}", *wanted, there),
                file_bytes);
  }
  if (*wanted < there)
    return fail(Code::malformed, fmt::format("{} bytes after the array", there - *wanted),
                file_bytes - there + *wanted);
  return {};
}

Result<NpyHeader> parse_header(const Source& source) {
  const auto length_bytes = length_bytes_of(source);
  if (!length_bytes) return length_bytes.error();
  const std::uint64_t begin = kVersionEnd + *length_bytes;
  if (source.size_bytes() < begin)
    return fail(Code::truncated, "the file ends before the header's length", source.size_bytes());
  const auto length_text = read_text(source, kVersionEnd, *length_bytes);
  if (!length_text) return length_text.error();
  const std::uint64_t length = little_endian(*length_text);
  if (length > kHeaderBytesMax) {
    return fail(Code::limit, fmt::format("a header of {} bytes, at most {} are read", length, kHeaderBytesMax),
                kVersionEnd);
  }
  if (length > source.size_bytes() - begin) {
    return fail(Code::truncated, fmt::format("a header of {} bytes goes beyond the end of the file", length),
                kVersionEnd);
  }
  const auto text = read_text(source, begin, length);
  if (!text) return text.error();
  NpyHeader header;
  header.data_offset = begin + length;
  if (auto result = HeaderText(*text, begin).parse(header); !result) return std::move(result).error();
  if (auto result = check_size(header, source.size_bytes()); !result) return std::move(result).error();
  return header;
}

}  // namespace

Result<NpyHeader> read_npy_header(const Source& source) {
  auto header = parse_header(source);
  if (!header && header.error().file.empty()) header.error().file = std::string(source.name());
  return header;
}

Result<NpyFile> open_npy(const std::string& path) {
  auto source = open_source(path, Io::pread);
  if (!source) return std::move(source).error();
  auto header = read_npy_header(**source);
  if (!header) return std::move(header).error();
  return NpyFile{*std::move(source), *std::move(header)};
}

Result<std::unique_ptr<std::byte[]>> load_elements(const NpyFile& file, const std::atomic<bool>& stop) {
  const std::uint64_t size = file.header.data_bytes;
  auto elements = std::make_unique_for_overwrite<std::byte[]>(size);
  for (std::uint64_t done = 0; done < size; done += kStepBytes) {
    if (stop.load()) return stopped();
    const std::span<std::byte> part(elements.get() + done, std::min(kStepBytes, size - done));
    if (auto result = file.source->read_at(file.header.data_offset + done, part); !result)
      return std::move(result).error();
  }
  return elements;
}

std::string npy_header(DType dtype, std::span<const std::uint64_t> shape) {
  const char* const descr = dtype == DType::f32 ? "<f4" : dtype == DType::f16 ? "<f2" : "<V2";
  std::string text = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}{}), }}", descr,
                                 fmt::join(shape, ", "), shape.size() == 1 ? "," : "");
  const std::uint64_t begin = kVersionEnd + 2;
  const std::uint64_t used = begin + text.size() + 1;
  text.append((kAlignment - used % kAlignment) % kAlignment, ' ');
  text += '\n';
  std::string out(kMagic);
  for (const std::size_t byte : {std::size_t{1}, std::size_t{0}, text.size() & 0xFF, text.size() >> 8})
    out += static_cast<char>(byte);
  return out + text;
}

}  // namespace cdna::tools
