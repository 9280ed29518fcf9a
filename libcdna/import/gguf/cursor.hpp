// Little-endian numbers and strings of a source, front to back, never beyond its end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/source.hpp"
#include "libcdna/try.hpp"

namespace cdna {

class GgufCursor {
 public:
  // Begins at a byte of `source`, which outlives this. Requires: offset <= its size.
  GgufCursor(const Source& source, std::uint64_t offset) : source_(source), position_(offset) {}

  std::uint64_t position() const { return position_; }
  std::uint64_t left() const { return source_.size_bytes() - position_; }

  // The next number. Errors: truncated (`what` is for the message), io.
  template <class T>
  Result<T> number(const char* what) {
    T value{};
    CDNA_TRY(read(std::as_writable_bytes(std::span(&value, 1)), what));
    return value;
  }

  // A length of 8 bytes and so many bytes. Errors: truncated, limit (more than `size_max`), io.
  Result<std::string> string(std::uint64_t size_max, const char* what);

  // The next bytes. Errors: truncated, io.
  Result<std::string> bytes(std::uint64_t size, const char* what);

  // Errors: truncated.
  Result<void> skip(std::uint64_t size, const char* what);

 private:
  Result<void> read(std::span<std::byte> out, const char* what);
  Result<void> fill();

  const Source& source_;
  std::uint64_t position_;
  std::uint64_t window_begin_ = 0;
  std::vector<std::byte> window_;
};

}  // namespace cdna
