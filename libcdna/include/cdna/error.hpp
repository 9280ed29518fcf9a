// What can go wrong, and Result<T>: the value or the Error of every call that can fail.
#pragma once

#include <cassert>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace cdna {

// The first group are properties of a file (spec/format.md, section 1: error classes); the second are not.
enum class Code : std::int32_t {
  not_cdna = 1,       // Nothing shows that this is a CDNA file.
  truncated = 2,      // Begins as one; its end is missing or its length is not the recorded one.
  corrupt = 3,        // Bytes differ from what a digest says.
  root_mismatch = 4,  // Not the file whose root the caller expects.
  malformed = 5,      // Bytes that agree with their digests break a rule. Also: a source file that breaks its format.
  unsupported = 6,    // A newer or optional part of a format that this library does not know.
  limit = 7,          // Over a limit of the format or of the caller.

  io = 32,  // The operating system failed: Error::os_errno.
  no_memory = 33,
  exists = 34,  // The destination exists and the caller did not ask to replace it.
  not_found = 35,
  bad_argument = 36,  // A request that no file could satisfy.
  cancelled = 37,     // The caller's stop flag was set.
};

// Name of a code as the spec and the JSON outputs spell it ("corrupt", "io"). Static storage.
std::string_view name_of(Code code);

inline constexpr std::uint64_t kNoOffset = ~std::uint64_t{0};

// Where and why something failed. Unused fields keep their defaults.
struct Error {
  Code code = Code::io;
  const char* rule = "";             // Rule of spec/format.md ("F2"), static storage; "" outside the format.
  std::string message;               // What is wrong, in English, without the place.
  std::string file;                  // Path as the caller gave it.
  std::string item;                  // Name of the tensor or asset, raw bytes: escape before printing.
  std::int32_t plane = -1;           // Number of the plane within the item.
  std::int64_t block = -1;           // Number of the block within the plane.
  std::uint64_t offset = kNoOffset;  // Byte in the file where the check failed.
  std::int32_t os_errno = 0;         // With Code::io, and no_memory of the system.

  // One printable line: file, item, plane, block, byte offset, message, rule, errno text. Control characters are
  // escaped; of the item at most 1024 bytes are shown.
  std::string describe() const;
};

// `text` with everything escaped that could act on a terminal: control characters, invalid UTF-8, line and paragraph
// separator (U+2028, U+2029) and the bidirectional marks (U+061C, U+200E, U+200F, U+202A..U+202E, U+2066..U+2069), as
// \xHH per byte; backslash as \\.
std::string escape(std::string_view text);

// The value of a call, or its Error. Spelled like std::expected, which C++20 lacks. Any function that returns one may
// fail with Code::no_memory, whose Error allocates nothing; none lets std::bad_alloc out.
template <class T>
class [[nodiscard]] Result {
 public:
  using value_type = T;
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }
  // Requires: has_value().
  T& operator*() & { return *get(); }
  const T& operator*() const& { return *get(); }
  T&& operator*() && { return std::move(*get()); }
  T* operator->() { return get(); }
  const T* operator->() const { return get(); }
  // Requires: !has_value().
  Error& error() & {
    assert(!has_value());
    return *std::get_if<1>(&state_);
  }
  const Error& error() const& {
    assert(!has_value());
    return *std::get_if<1>(&state_);
  }
  Error&& error() && {
    assert(!has_value());
    return std::move(*std::get_if<1>(&state_));
  }

 private:
  T* get() {
    assert(has_value());
    return std::get_if<0>(&state_);
  }
  const T* get() const {
    assert(has_value());
    return std::get_if<0>(&state_);
  }
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}
  bool has_value() const { return !error_.has_value(); }
  explicit operator bool() const { return has_value(); }
  // Requires: !has_value().
  Error& error() & {
    assert(error_);
    return *error_;
  }
  const Error& error() const& {
    assert(error_);
    return *error_;
  }
  Error&& error() && {
    assert(error_);
    return *std::move(error_);
  }

 private:
  std::optional<Error> error_;
};

}  // namespace cdna
