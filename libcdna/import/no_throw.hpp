// Turns the exceptions of the standard library into errors, at the doors of the import module.
#pragma once

#include <exception>
#include <new>
#include <string>
#include <utility>

#include "cdna/error.hpp"
#include "libcdna/try.hpp"

namespace cdna {

// Calls `work`, which returns a Result. Foreign files decide how much memory an import wants: running out is an error.
template <class Work>
auto no_throw(Work&& work) -> decltype(work()) {
  try {
    return std::forward<Work>(work)();
  } catch (const std::bad_alloc&) {
    return fail(Code::no_memory, "", "out of memory");
  } catch (const std::exception& exception) {  // length_error: more than a container can ever hold.
    return fail(Code::no_memory, "", exception.what());
  }
}

}  // namespace cdna
