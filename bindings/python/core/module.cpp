// cdna._core: the C++ library for the Python package. What it takes and gives is in _core.pyi; use `cdna` instead.
#include <nanobind/nanobind.h>

#include "buffer.hpp"
#include "container.hpp"

NB_MODULE(_core, module) {
  using namespace cdna::python;
  nanobind::set_leak_warnings(false);  // A view that lives at exit is no mistake.
  add_buffer(module);
  add_container(module);
  add_convert(module);
  add_dlpack(module);
  add_encode(module);
  add_environment(module);
  add_pack(module);
  add_policy(module);
}
