// A window of the source is kept, since most of a header are numbers of 4 and 8 bytes.
#include "libcdna/import/gguf/cursor.hpp"

#include <algorithm>
#include <bit>

namespace cdna {
namespace {

static_assert(std::endian::native == std::endian::little);
constexpr std::uint64_t kWindowBytes = 65536;

}  // namespace

Result<void> GgufCursor::fill() {
  window_.resize(static_cast<std::size_t>(std::min(kWindowBytes, left())));
  window_begin_ = position_;
  auto result = source_.read_at(position_, window_);
  if (!result) window_.clear();
  return result;
}

Result<void> GgufCursor::read(std::span<std::byte> out, const char* what) {
  CDNA_CHECK(out.size() <= left(), Code::truncated, "", "the file ends within " + std::string(what), position_);
  while (!out.empty()) {
    if (position_ < window_begin_ || position_ - window_begin_ >= window_.size()) CDNA_TRY(fill());
    const auto begin = static_cast<std::size_t>(position_ - window_begin_);
    const std::size_t size = std::min(out.size(), window_.size() - begin);
    std::memcpy(out.data(), window_.data() + begin, size);
    position_ += size;
    out = out.subspan(size);
  }
  return {};
}

Result<std::string> GgufCursor::string(std::uint64_t size_max, const char* what) {
  const std::uint64_t begin = position_;
  const std::uint64_t size = CDNA_TRY(number<std::uint64_t>(what));
  CDNA_CHECK(size <= left(), Code::truncated, "",
             std::string(what) + " of " + std::to_string(size) + " bytes, where the file has " +
                 std::to_string(left()) + " more",
             begin);
  CDNA_CHECK(size <= size_max, Code::limit, "",
             std::string(what) + " of " + std::to_string(size) + " bytes; at most " + std::to_string(size_max) +
                 " are allowed",
             begin);
  return bytes(size, what);
}

Result<std::string> GgufCursor::bytes(std::uint64_t size, const char* what) {
  CDNA_CHECK(size <= left(), Code::truncated, "", "the file ends within " + std::string(what), position_);
  std::string text(static_cast<std::size_t>(size), '\0');
  CDNA_TRY(read(std::as_writable_bytes(std::span(text)), what));
  return text;
}

Result<void> GgufCursor::skip(std::uint64_t size, const char* what) {
  CDNA_CHECK(size <= left(), Code::truncated, "", "the file ends within " + std::string(what), position_);
  position_ += size;
  return {};
}

}  // namespace cdna
