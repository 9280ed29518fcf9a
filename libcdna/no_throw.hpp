// Turns running out of memory into an error, at the public functions that return a Result.
#pragma once

#include <new>
#include <stdexcept>
#include <utility>

#include "cdna/error.hpp"
#include "libcdna/try.hpp"

namespace cdna {

// Calls `work`, which returns a Result. The error that it may add needs no memory: its text fits into std::string
// itself.
template <class Work>
auto no_throw(Work&& work) -> decltype(work()) {
  try {
    return std::forward<Work>(work)();
  } catch (const std::bad_alloc&) {
    return fail(Code::no_memory, "", "out of memory");
  } catch (const std::length_error&) {  // More than a container can ever hold.
    return fail(Code::no_memory, "", "out of memory");
  }
}

}  // namespace cdna
