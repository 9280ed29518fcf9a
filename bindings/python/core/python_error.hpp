// Errors of the library as Python exceptions.
#pragma once

#include <nanobind/nanobind.h>

#include <string>
#include <string_view>
#include <utility>

#include "cdna/error.hpp"
#include "gil.hpp"

namespace cdna::python {

// Text of a file, which is UTF-8 where it has been checked; what is not is escaped (\xHH).
nanobind::str text_of(std::string_view text);

// Any text as UTF-8; what has no UTF-8, lone surrogates, is escaped (\udcHH). Raises MemoryError.
std::string utf8_of(nanobind::handle text);

// A path or other bytes of the system, as os.fsdecode() has them.
nanobind::object path_of(std::string_view path);

// The exception that stands for `error`: an instance of a class of cdna._errors, whose cause is what a source of
// Python's raised. Raises what is to end the program and no error: KeyboardInterrupt, SystemExit. Requires the GIL.
nanobind::object exception_of(const Error& error);

// Requires the GIL. Throws nanobind::python_error.
[[noreturn]] void raise(const Error& error);

// Raises an exception of the request's own: no file has to do with it. Requires the GIL.
[[noreturn]] void raise_bad_argument(std::string message);

template <class T>
T value_of(Result<T>&& result) {
  if (!result) raise(result.error());
  return *std::move(result);
}
inline void value_of(Result<void>&& result) {
  if (!result) raise(result.error());
}

// What `work` gives, which returns a Result and runs without the GIL. Raises its error.
template <class Work>
auto without_gil(Work&& work) {
  auto result = [&] {
    const GilReleased released;
    return std::forward<Work>(work)();
  }();
  return value_of(std::move(result));
}

}  // namespace cdna::python
