// A Python object as a source of bytes.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>

#include "cdna/source.hpp"

namespace cdna::python {

// `object` has read_at(offset, size), which returns that many bytes, and size: a number. What read_at() raises becomes
// Code::io with the exception's text. Called on threads of the library, one at a time (the GIL). Raises what reading
// `size` raises.
std::unique_ptr<Source> python_source(const nanobind::object& object);

}  // namespace cdna::python
