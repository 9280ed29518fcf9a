// CDNA_TRY and the one-line makers of errors, for use inside the library.
#pragma once

#include <cerrno>
#include <cstdint>
#include <string>
#include <utility>

#include "cdna/error.hpp"

// The value of a Result expression, or return its error from the enclosing function. Not to be nested in itself,
// nor to stand behind operands that own memory: g++ 12 and clang 14 do not destroy those when this returns.
#define CDNA_TRY(expression)                                   \
  __extension__({                                              \
    auto cdna_result_ = (expression);                          \
    if (!cdna_result_) return std::move(cdna_result_).error(); \
    ::cdna::take(std::move(cdna_result_));                     \
  })

// Returns an error unless `condition` holds.
#define CDNA_CHECK(condition, ...)                      \
  do {                                                  \
    if (!(condition)) return ::cdna::fail(__VA_ARGS__); \
  } while (false)

namespace cdna {

template <class T>
T take(Result<T>&& result) {
  return *std::move(result);
}
inline void take(Result<void>&&) {}

inline Error fail(Code code, const char* rule, std::string message, std::uint64_t offset = kNoOffset) {
  Error error;
  error.code = code;
  error.rule = rule;
  error.message = std::move(message);
  error.offset = offset;
  return error;
}

inline Error fail_io(std::string message, std::int64_t negative_errno, std::string file = {}) {
  Error error;
  error.code = negative_errno == -ENOMEM ? Code::no_memory : Code::io;
  error.message = std::move(message);
  error.os_errno = static_cast<std::int32_t>(-negative_errno);
  error.file = std::move(file);
  return error;
}

}  // namespace cdna
