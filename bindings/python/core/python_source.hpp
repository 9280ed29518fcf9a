// A Python object as a source of bytes.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>

#include "cdna/source.hpp"

namespace cdna::python {

// `object` has read_at(offset, size), which returns that many bytes, and size: a number. What read_at() raises becomes
// Code::io with the exception's text; exception_behind() has it itself. Called on threads of the library, one at a time
// (the GIL). Raises what reading `size` raises.
std::unique_ptr<Source> python_source(const nanobind::object& object);

// The object that such a source asks; no handle of any other.
nanobind::handle object_behind(const Source& source);

// What it gives lives at least as long as errors of the source are raised: then its exceptions are forgotten.
std::shared_ptr<const void> keep_exceptions(const Source& source);

// The exception that `error` was made of, once; no object where there is none or it was forgotten. Requires the GIL.
nanobind::object exception_behind(const Error& error);

}  // namespace cdna::python
