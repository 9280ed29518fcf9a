// The GIL, let go and taken. At its end the interpreter unwinds threads that take it, through frames that must not be
// left like that; here such a thread waits instead, forever, as CPython 3.14 has it wait itself.
#pragma once

#include <nanobind/nanobind.h>

#ifdef __GLIBCXX__
#include <cxxabi.h>
#endif

#include <utility>

namespace cdna::python {

// Whether the interpreter ends or has ended: only the thread that ends it still runs Python code.
bool interpreter_ends();

// Waits until the process ends.
[[noreturn]] void wait_forever();

// What `call` gives, which may run Python code: between any two of its steps the GIL changes hands. Requires the GIL.
template <class Call>
decltype(auto) run_python(Call&& call) {
#ifdef __GLIBCXX__
  try {
    return std::forward<Call>(call)();
  } catch (const abi::__forced_unwind&) {
    wait_forever();
  }
#else
  return std::forward<Call>(call)();
#endif
}

// Without the GIL while it lives. Made and destroyed by a thread that has it.
class GilReleased {
 public:
  GilReleased() : ends_here_(interpreter_ends()), state_(PyEval_SaveThread()) {}
  GilReleased(const GilReleased&) = delete;
  GilReleased& operator=(const GilReleased&) = delete;
  ~GilReleased();

 private:
  bool ends_here_;  // This is the thread that ends the interpreter.
  PyThreadState* state_;
};

// With the GIL while it lives, on any thread; without where the interpreter ends, unless the thread had it already.
class GilHeld {
 public:
  GilHeld();
  GilHeld(const GilHeld&) = delete;
  GilHeld& operator=(const GilHeld&) = delete;
  ~GilHeld();
  explicit operator bool() const { return held_; }

 private:
  bool held_;
  PyGILState_STATE state_{};
};

}  // namespace cdna::python
