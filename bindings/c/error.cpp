// cdna_error, and its texts.
#include <charconv>

#include "bindings/c/boundary.hpp"

namespace cdna::c {

cdna_code tell(const Error& error, cdna_error* out) noexcept {
  const auto code = static_cast<cdna_code>(error.code);
  if (out == nullptr) return code;
  *out = cdna_error{};
  out->code = code;
  out->os_errno = error.os_errno;
  out->block = error.block;
  out->offset = error.offset;
  out->plane = error.plane;
  put(out->rule, error.rule);
  try {
    put(out->tensor, escape(error.item));
    put(out->file, escape(error.file));
    put(out->message, escape(error.message));
  } catch (...) {
    put(out->message, "out of memory");
  }
  return code;
}

std::size_t copy_text(std::string_view text, char* out, std::size_t size) noexcept {
  if (out != nullptr && size != 0) {
    const std::size_t end = std::min(text.size(), size - 1);
    std::memcpy(out, text.data(), end);
    out[end] = 0;
  }
  return text.size();
}

namespace {

// Puts a text together in memory of the caller's, as much of it as fits, and counts all of it. Allocates nothing.
class Line {
 public:
  Line(char* out, std::size_t size) : out_(out), room_(out == nullptr || size == 0 ? 0 : size - 1), ends_(room_ != 0) {
    if (out != nullptr && size != 0) out[0] = 0;
  }
  Line& add(std::string_view text) {
    if (length_ < room_) std::memcpy(out_ + length_, text.data(), std::min(text.size(), room_ - length_));
    length_ += text.size();
    return *this;
  }
  template <class Number>
  Line& add_number(Number number) {
    char digits[24];
    return add({digits, static_cast<std::size_t>(std::to_chars(digits, digits + sizeof digits, number).ptr - digits)});
  }
  bool empty() const { return length_ == 0; }
  std::size_t finish() {
    if (ends_) out_[std::min(length_, room_)] = 0;
    return length_;
  }

 private:
  char* out_;
  std::size_t room_;  // Without the 0.
  bool ends_;
  std::size_t length_ = 0;
};

// A text of a cdna_error, should its 0 be missing.
template <std::size_t size>
std::string_view field(const char (&text)[size]) {
  return {text, ::strnlen(text, size)};
}

void add_place(Line& line, const cdna_error& error) {
  const auto part = [&line](std::string_view label) -> Line& { return line.add(line.empty() ? "" : ", ").add(label); };
  if (error.file[0] != 0) part("").add(field(error.file));
  if (error.tensor[0] != 0) part("'").add(field(error.tensor)).add("'");
  if (error.plane >= 0) part("plane ").add_number(error.plane);
  if (error.block >= 0) part("block ").add_number(error.block);
  if (error.offset != CDNA_NO_OFFSET) part("at byte ").add_number(error.offset);
}

std::size_t describe(const cdna_error& error, char* out, std::size_t size) {
  Line line(out, size);
  add_place(line, error);
  if (!line.empty()) line.add(": ");
  line.add(field(error.message));
  if (error.os_errno != 0) {
    char text[128] = "";
    line.add(": ").add(::strerror_r(error.os_errno, text, sizeof text));
  }
  line.add(" [").add(cdna_code_name(error.code));
  if (error.rule[0] != 0) line.add(" ").add(field(error.rule));
  return line.add("]").finish();
}

std::size_t escape_bytes(std::string_view text, char* out, std::size_t size) {
  constexpr char kDigits[] = "0123456789abcdef";
  Line line(out, size);
  for (const char character : text) {
    const auto byte = static_cast<unsigned char>(character);
    const char hex[] = {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
    if (character == '\\') {
      line.add("\\\\");
    } else if (byte >= 0x20 && byte < 0x7F) {
      line.add({&character, 1});
    } else {
      line.add({hex, sizeof hex});
    }
  }
  return line.finish();
}

std::size_t escape_text(std::string_view text, char* out, std::size_t size) noexcept {
  try {
    return copy_text(escape(text), out, size);
  } catch (...) {
    return escape_bytes(text, out, size);
  }
}

}  // namespace
}  // namespace cdna::c

extern "C" {

size_t cdna_error_describe(const cdna_error* error, char* out, size_t size) {
  return error == nullptr ? cdna::c::copy_text("", out, size) : cdna::c::describe(*error, out, size);
}

const char* cdna_code_name(cdna_code code) {
  if (code == CDNA_OK) return "ok";
  if (code == CDNA_END) return "end";
  const bool known = (code >= CDNA_NOT_CDNA && code <= CDNA_LIMIT) || (code >= CDNA_IO && code <= CDNA_CANCELLED);
  return known ? cdna::name_of(static_cast<cdna::Code>(code)).data() : "";  // Views of literals.
}

size_t cdna_escape(const char* text, char* out, size_t size) {
  return cdna::c::escape_text(text == nullptr ? "" : text, out, size);
}

}  // extern "C"
