// Looking first is not enough: the end may begin while a thread waits for the GIL. That is what run_python() is for.
#include "gil.hpp"

#include <unistd.h>

namespace cdna::python {

bool interpreter_ends() {
  if (Py_IsInitialized() == 0) return true;
#if PY_VERSION_HEX >= 0x030D0000
  return Py_IsFinalizing() != 0;
#else
  return _Py_IsFinalizing() != 0;
#endif
}

void wait_forever() {
  for (;;) pause();
}

GilReleased::~GilReleased() {
  if (!ends_here_ && interpreter_ends()) wait_forever();
  run_python([this] { PyEval_RestoreThread(state_); });
}

// PyGILState_Check() alone says yes where there is no interpreter any more.
GilHeld::GilHeld()
    : held_(!interpreter_ends() || (PyGILState_GetThisThreadState() != nullptr && PyGILState_Check() != 0)) {
  if (held_) state_ = run_python([] { return PyGILState_Ensure(); });
}

GilHeld::~GilHeld() {
  if (held_) run_python([this] { PyGILState_Release(state_); });
}

}  // namespace cdna::python
