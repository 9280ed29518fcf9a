// A parser of the few Python literals that the header of an array has, and the reading of its values.
#include "libcdna/import/numpy/npy.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include "libcdna/import/json.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::uint64_t kVersionEnd = 8;  // Of magic and version.
constexpr std::size_t kStepBytes = std::size_t{1} << 20;

struct NumpyType {
  std::string_view name;  // Without the byte order.
  DType dtype;
};

// What both have (numpy.dtype.str). V2, two bytes of any kind, is what np.save makes of ml_dtypes.bfloat16.
constexpr std::array kTypes{NumpyType{"b1", DType::boolean}, NumpyType{"u1", DType::u8},  NumpyType{"i1", DType::i8},
                            NumpyType{"u2", DType::u16},     NumpyType{"i2", DType::i16}, NumpyType{"u4", DType::u32},
                            NumpyType{"i4", DType::i32},     NumpyType{"u8", DType::u64}, NumpyType{"i8", DType::i64},
                            NumpyType{"f2", DType::f16},     NumpyType{"f4", DType::f32}, NumpyType{"f8", DType::f64},
                            NumpyType{"c8", DType::c64},     NumpyType{"V2", DType::bf16}};

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::string_view reason_against(std::string_view descr) {
  if (descr.find('O') != std::string_view::npos) return "objects, which are pickles: loading one can run any code";
  if (descr.find('U') != std::string_view::npos || descr.find('S') != std::string_view::npos) return "text";
  if (descr.find('M') != std::string_view::npos || descr.find('m') != std::string_view::npos) return "times";
  if (descr.find('V') != std::string_view::npos) return "bytes without a type; float8 of ml_dtypes is saved so too";
  return "no dtype of CDNA";
}

struct Element {
  DType dtype = DType::none;
  bool is_big_endian = false;
};

Result<Element> element_of(std::string_view descr, std::uint64_t offset) {
  const char order = descr.empty() ? '\0' : descr.front();
  const std::string_view name = descr.substr(std::min<std::size_t>(1, descr.size()));
  const auto* const found =
      std::find_if(kTypes.begin(), kTypes.end(), [&](const auto& row) { return row.name == name; });
  const bool has_order = order == '<' || order == '>';
  if (found != kTypes.end()) {
    const bool is_byte = bits_of(found->dtype) == 8;
    if (has_order || (order == '|' && (is_byte || name == "V2")))
      return Element{found->dtype, order == '>' && !is_byte};
  }
  return fail(Code::unsupported, "", "dtype " + quote(descr) + ": " + std::string(reason_against(descr)), offset);
}

// The dictionary of a header.
class HeaderText {
 public:
  HeaderText(std::string_view text, std::uint64_t offset) : text_(text), offset_(offset) {}

  Result<void> parse(NpyHeader& out) {
    CDNA_TRY(expect('{'));
    while (!accept('}')) {
      CDNA_TRY(parse_entry(out));
      if (accept(',')) continue;
      CDNA_TRY(expect('}'));
      break;
    }
    skip_space();
    if (at_ != text_.size()) return bad("text after the header's dictionary");
    for (std::size_t i = 0; i < kKeys.size(); ++i) {
      if (!seen_[i]) return bad("the header has no '" + std::string(kKeys[i]) + "'");
    }
    return {};
  }

 private:
  static constexpr std::array kKeys{"descr"sv, "fortran_order"sv, "shape"sv};

  Error bad(std::string message) const { return fail(Code::malformed, "", std::move(message), offset_ + at_); }

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
    if (!accept(c)) return bad(std::string("'") + c + "' is missing in the header");
    return {};
  }

  Result<void> parse_entry(NpyHeader& out) {
    skip_space();
    const std::size_t begin = at_;
    const std::string_view key = CDNA_TRY(parse_string());
    const auto number = static_cast<std::size_t>(std::find(kKeys.begin(), kKeys.end(), key) - kKeys.begin());
    if (number == kKeys.size() || seen_[number]) {
      at_ = begin;
      return bad("key " + quote(key) + (number == kKeys.size() ? " is none of a header's" : " occurs twice"));
    }
    seen_[number] = true;
    CDNA_TRY(expect(':'));
    skip_space();
    if (number == 0) return parse_descr(out);
    return number == 1 ? parse_order(out.is_column_major) : parse_shape(out.shape);
  }

  // Without escapes, which no header needs.
  Result<std::string_view> parse_string() {
    if (!next_is('\'') && !next_is('"')) return bad("a string is missing in the header");
    const std::size_t begin = at_ + 1;
    const std::size_t end = text_.find(text_[at_], begin);
    if (end == std::string_view::npos) return bad("a string of the header has no end");
    const std::string_view string = text_.substr(begin, end - begin);
    if (string.find('\\') != std::string_view::npos) return bad("a string of the header has a backslash");
    at_ = end + 1;
    return string;
  }

  Result<void> parse_descr(NpyHeader& out) {
    const std::uint64_t begin = offset_ + at_;
    CDNA_CHECK(!next_is('[') && !next_is('('), Code::unsupported, "",
               "a dtype of records; an array of plain numbers is wanted", begin);
    const std::string_view descr = CDNA_TRY(parse_string());
    const Element element = CDNA_TRY(element_of(descr, begin));
    out.dtype = element.dtype;
    out.is_big_endian = element.is_big_endian;
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
      CDNA_CHECK(out.size() < kNpyDimensionsMax, Code::limit, "",
                 "'shape' has more than " + std::to_string(kNpyDimensionsMax) + " sizes", offset_ + at_);
      out.push_back(CDNA_TRY(parse_size()));
      after_comma = accept(',');
    }
    if (out.size() == 1 && !after_comma) return bad("'shape' is a number, not a tuple: (3,) would be one");
    return {};
  }

  Result<std::uint64_t> parse_size() {
    constexpr auto kMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    skip_space();
    const std::size_t begin = at_;
    std::uint64_t size = 0;
    for (; at_ < text_.size() && is_digit(text_[at_]); ++at_) {
      const auto digit = static_cast<std::uint64_t>(text_[at_] - '0');
      CDNA_CHECK(size <= (kMax - digit) / 10, Code::limit, "", "a size of 'shape' is 2^63 or more", offset_ + begin);
      size = 10 * size + digit;
    }
    if (at_ == begin) return bad("'shape' has something other than sizes");
    if (at_ < text_.size() && text_[at_] == 'L') ++at_;  // As Python 2 wrote them.
    return size;
  }

  std::string_view text_;
  std::uint64_t offset_;
  std::size_t at_ = 0;
  std::array<bool, kKeys.size()> seen_{};
};

// Size of the field that has the header's length.
Result<std::uint64_t> length_bytes_of(std::string_view head) {
  const std::string_view magic = head.substr(0, kMagic.size());
  CDNA_CHECK(!magic.empty() && kMagic.starts_with(magic), Code::malformed, "", "not a .npy file", 0);
  CDNA_CHECK(head.size() >= kVersionEnd, Code::truncated, "", "the file ends before the version", head.size());
  const int major = static_cast<unsigned char>(head[6]);
  const int minor = static_cast<unsigned char>(head[7]);
  CDNA_CHECK(
      major >= 1 && major <= 3 && minor == 0, Code::unsupported, "",
      "version " + std::to_string(major) + "." + std::to_string(minor) + " of the .npy format: 1.0 to 3.0 are known",
      kMagic.size());
  return std::uint64_t{major == 1 ? 2U : 4U};
}

Result<void> check_size(NpyHeader& header, std::uint64_t file_bytes) {
  const bool is_empty = std::find(header.shape.begin(), header.shape.end(), 0) != header.shape.end();
  std::uint64_t bytes = is_empty ? 0 : bits_of(header.dtype) / 8;
  for (const std::uint64_t size : header.shape) {
    CDNA_CHECK(is_empty || bytes <= ~std::uint64_t{0} / size, Code::limit, "", "an array of 2^64 bytes or more",
               header.data_begin);
    bytes *= size;
  }
  const std::uint64_t there = file_bytes - header.data_begin;
  CDNA_CHECK(bytes <= there, Code::truncated, "",
             "the array has " + std::to_string(bytes) + " bytes, of which the file has " + std::to_string(there),
             file_bytes);
  CDNA_CHECK(bytes == there, Code::malformed, "", std::to_string(there - bytes) + " bytes after the array",
             header.data_begin + bytes);
  header.size_bytes = bytes;
  return {};
}

// Bytes that change places together.
std::size_t swapped_bytes(DType dtype) { return dtype == DType::c64 ? 4 : bits_of(dtype) / 8; }

void swap_bytes(std::span<std::byte> values, std::size_t unit) {
  for (auto at = values.begin(); at != values.end(); at += static_cast<std::ptrdiff_t>(unit))
    std::reverse(at, at + static_cast<std::ptrdiff_t>(unit));
}

// Bytes in the file's order of elements, little-endian.
Result<void> read_in_order(const Source& source, const NpyHeader& header, std::uint64_t offset,
                           std::span<std::byte> out) {
  if (!header.is_big_endian) return source.read_at(header.data_begin + offset, out);
  const std::size_t unit = swapped_bytes(header.dtype);
  std::vector<std::byte> piece;
  for (std::uint64_t at = offset; at < offset + out.size();) {
    const std::uint64_t begin = at / unit * unit;
    const std::uint64_t end = std::min((offset + out.size() + unit - 1) / unit * unit, begin + kStepBytes);
    piece.resize(end - begin);
    CDNA_TRY(source.read_at(header.data_begin + begin, piece));
    swap_bytes(piece, unit);
    const std::uint64_t copied = std::min(end, offset + out.size()) - at;
    std::copy_n(piece.begin() + static_cast<std::ptrdiff_t>(at - begin), copied,
                out.begin() + static_cast<std::ptrdiff_t>(at - offset));
    at += copied;
  }
  return {};
}

// Elements whose first index runs fastest, so that their last does.
std::vector<std::byte> transposed(std::span<const std::byte> values, std::span<const std::uint64_t> shape,
                                  std::size_t size) {
  std::vector<std::uint64_t> strides(shape.size());  // In `values`.
  std::uint64_t stride = size;
  for (std::size_t i = 0; i < shape.size(); stride *= shape[i], ++i) strides[i] = stride;
  std::vector<std::byte> out(values.size());
  std::vector<std::uint64_t> index(shape.size());
  std::uint64_t from = 0;
  for (std::size_t to = 0; to < out.size(); to += size) {
    std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(from), size,
                out.begin() + static_cast<std::ptrdiff_t>(to));
    for (std::size_t i = shape.size(); i-- > 0;) {
      from += strides[i];
      if (++index[i] < shape[i]) break;
      from -= strides[i] * shape[i];
      index[i] = 0;
    }
  }
  return out;
}

Result<std::vector<std::byte>> read_all(const Source& source, const NpyHeader& header) {
  std::vector<std::byte> values(header.size_bytes);
  CDNA_TRY(read_in_order(source, header, 0, values));
  if (!header.is_column_major) return values;
  return transposed(values, header.shape, bits_of(header.dtype) / 8);
}

}  // namespace

Result<NpyHeader> parse_npy_header(std::span<const std::byte> head, std::uint64_t file_bytes) {
  const std::string_view text(reinterpret_cast<const char*>(head.data()), head.size());
  const std::uint64_t length_bytes = CDNA_TRY(length_bytes_of(text));
  const std::uint64_t begin = kVersionEnd + length_bytes;
  CDNA_CHECK(text.size() >= begin, Code::truncated, "", "the file ends before the header's length", text.size());
  std::uint64_t length = 0;
  for (std::uint64_t i = 0; i < length_bytes; ++i)
    length |= std::uint64_t{static_cast<unsigned char>(text[kVersionEnd + i])} << (8 * i);
  CDNA_CHECK(length <= file_bytes - begin, Code::truncated, "",
             "a header of " + std::to_string(length) + " bytes goes beyond the end of the file", kVersionEnd);
  CDNA_CHECK(
      length <= kNpyHeaderBytesMax - begin, Code::limit, "",
      "a header of " + std::to_string(length) + " bytes; at most " + std::to_string(kNpyHeaderBytesMax) + " are read",
      kVersionEnd);
  NpyHeader header;
  header.data_begin = begin + length;
  CDNA_TRY(HeaderText(text.substr(begin, length), begin).parse(header));
  CDNA_TRY(check_size(header, file_bytes));
  const auto wide =
      std::count_if(header.shape.begin(), header.shape.end(), [](std::uint64_t size) { return size > 1; });
  header.is_column_major = header.is_column_major && wide > 1 && header.size_bytes > 0;
  return header;
}

Result<NpyHeader> read_npy_header(const Source& source) {
  std::vector<std::byte> head(std::min(source.size_bytes(), kNpyHeaderBytesMax));
  CDNA_TRY(source.read_at(0, head));
  auto header = parse_npy_header(head, source.size_bytes());
  if (!header && header.error().file.empty()) header.error().file = std::string(source.name());
  return header;
}

Result<void> read_npy(const Source& source, const NpyHeader& header, std::uint64_t offset, std::span<std::byte> out) {
  if (out.empty()) return {};
  if (!header.is_column_major) return read_in_order(source, header, offset, out);
  const std::vector<std::byte> values = CDNA_TRY(read_all(source, header));
  std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
  return {};
}

Result<NpyArray> read_npy_array(const Source& source) {
  return no_throw([&]() -> Result<NpyArray> {
    NpyHeader header = CDNA_TRY(read_npy_header(source));
    NpyArray array;
    array.values = CDNA_TRY(read_all(source, header));
    array.dtype = header.dtype;
    array.shape = std::move(header.shape);
    return array;
  });
}

}  // namespace cdna
