// Between C and C++: errors, structs that may be of another version, and exceptions that stay inside.
#pragma once

#include <pthread.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "bindings/c/cdna.h"
#include "cdna/error.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna::c {

// Writes `error`, unless it is null, and returns its code.
cdna_code tell(const Error& error, cdna_error* out) noexcept;

// pthread_cancel() takes effect behind a call: its unwinding can pass no noexcept function, and would leave locks held.
class NotCancelled {
 public:
  NotCancelled() noexcept { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before_); }
  ~NotCancelled() { pthread_setcancelstate(before_, nullptr); }
  NotCancelled(const NotCancelled&) = delete;
  NotCancelled& operator=(const NotCancelled&) = delete;

 private:
  int before_ = PTHREAD_CANCEL_ENABLE;
};

// What a _free function does: closing files and ending threads are where a thread could be cancelled.
template <class Handle>
void free_handle(Handle* handle) noexcept {
  const NotCancelled whole;
  delete handle;
}

// Runs `work`, which returns Result<void>.
template <class Work>
cdna_code guarded(cdna_error* out, Work&& work) noexcept {
  const NotCancelled whole;
  try {
    const Result<void> result = no_throw(std::forward<Work>(work));
    return result ? CDNA_OK : tell(result.error(), out);
  } catch (...) {
    return tell(fail(Code::io, "", "not foreseen"), out);  // A text that fits into std::string itself.
  }
}

// Messages name the argument, and its value where it has one.
inline Error bad_argument(std::string message) { return fail(Code::bad_argument, "", std::move(message)); }

// Errors: bad_argument (null).
inline Result<void> need(const void* pointer, const char* name) {
  if (pointer == nullptr) return bad_argument(std::string(name) + " is NULL");
  return {};
}

// Errors: bad_argument (null).
inline Result<std::string_view> text(const char* given, const char* name) {
  CDNA_TRY(need(given, name));
  return std::string_view(given);
}

// How large the caller's struct is. Errors: bad_argument (null, or no struct_size).
template <class Struct>
Result<std::uint32_t> struct_size(const Struct* given, const char* name) {
  CDNA_TRY(need(given, name));
  std::uint32_t size = 0;
  std::memcpy(&size, given, sizeof size);
  if (size < sizeof size) return bad_argument(std::string(name) + ": struct_size is not set");
  return size;
}

// Whether a struct of any version can have it: else it is taken for a field that was never set.
inline bool is_struct_size(std::uint32_t size) { return size != 0 && size % 8 == 0 && size <= 4096; }

// A struct of the caller's, of this version or another. Errors: bad_argument (null, no struct_size or a wrong one, or
// fields set that this version does not know).
template <class Struct>
Result<Struct> take_struct(const Struct* given, const char* name) {
  const std::uint32_t size = CDNA_TRY(struct_size(given, name));
  if (!is_struct_size(size)) return bad_argument(std::string(name) + ": struct_size is " + std::to_string(size));
  const auto* const bytes = reinterpret_cast<const unsigned char*>(given);
  for (std::size_t i = sizeof(Struct); i < size; ++i) {
    if (bytes[i] != 0) return bad_argument(std::string(name) + " has a field of a later version set");
  }
  Struct out{};
  std::memcpy(&out, given, std::min<std::size_t>(size, sizeof out));
  return out;
}

// The same of options, which may be null: all defaults.
template <class Struct>
Result<Struct> take_options(const Struct* given, const char* name) {
  return given == nullptr ? Result<Struct>(Struct{}) : take_struct(given, name);
}

// As much of `value` as the caller's struct has. Its struct_size stays. Errors: bad_argument.
template <class Struct>
Result<void> give_struct(const Struct& value, Struct* out, const char* name) {
  const std::uint32_t size = CDNA_TRY(struct_size(out, name));
  const std::size_t end = std::min<std::size_t>(size, sizeof value);
  std::memcpy(reinterpret_cast<unsigned char*>(out) + sizeof size,
              reinterpret_cast<const unsigned char*>(&value) + sizeof size, end - sizeof size);
  return {};
}

// Copies as much of a text as fits, with a 0, as snprintf does, and returns its length.
std::size_t copy_text(std::string_view text, char* out, std::size_t size) noexcept;

// The text in an array of the caller's, 0 behind it, cut before the first byte of a character that does not fit whole.
template <std::size_t size>
void put(char (&out)[size], std::string_view text) noexcept {
  std::size_t end = std::min(text.size(), size - 1);
  while (end < text.size() && end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
  std::memcpy(out, text.data(), end);
  std::memset(out + end, 0, size - end);
}

}  // namespace cdna::c
