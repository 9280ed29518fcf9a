// Exceptions are made by cdna._errors, which knows the classes; here an Error becomes its arguments.
#include "python_error.hpp"

#include "python_source.hpp"

namespace cdna::python {

namespace nb = nanobind;

namespace {

template <class T>
nb::object or_none(bool known, T value) {
  return known ? nb::cast(value) : nb::none();
}

[[noreturn]] void raise_object(const nb::object& exception) {
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(exception.ptr())), exception.ptr());
  throw nb::python_error();
}

}  // namespace

nb::str text_of(std::string_view text) {
  PyObject* const decoded = PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "backslashreplace");
  if (decoded == nullptr) throw nb::python_error();
  return nb::steal<nb::str>(decoded);
}

std::string utf8_of(nb::handle text) {
  PyObject* const encoded = PyUnicode_AsEncodedString(text.ptr(), "utf-8", "backslashreplace");
  if (encoded == nullptr) throw nb::python_error();
  const nb::bytes bytes = nb::steal<nb::bytes>(encoded);
  return {bytes.c_str(), bytes.size()};
}

nb::object path_of(std::string_view path) {
  PyObject* const decoded = PyUnicode_DecodeFSDefaultAndSize(path.data(), static_cast<Py_ssize_t>(path.size()));
  if (decoded == nullptr) throw nb::python_error();
  return nb::steal(decoded);
}

nb::object exception_of(const Error& error) {
  nb::object cause = exception_behind(error);
  if (cause.is_valid() && PyObject_IsInstance(cause.ptr(), PyExc_Exception) == 0) raise_object(cause);
  nb::dict fields;
  fields["code"] = text_of(name_of(error.code));
  fields["rule"] = text_of(error.rule);
  fields["message"] = text_of(error.message);
  fields["path"] = error.file.empty() ? nb::none() : path_of(error.file);
  fields["tensor"] = error.item.empty() ? nb::none() : nb::object(text_of(error.item));
  fields["plane"] = or_none(error.plane >= 0, error.plane);
  fields["block"] = or_none(error.block >= 0, error.block);
  fields["offset"] = or_none(error.offset != kNoOffset, error.offset);
  fields["errno"] = or_none(error.os_errno != 0, error.os_errno);
  fields["text"] = text_of(error.describe());
  return run_python([&] {
    nb::object exception = nb::module_::import_("cdna._errors").attr("exception_of")(**fields);
    if (cause.is_valid()) PyException_SetCause(exception.ptr(), cause.release().ptr());
    return exception;
  });
}

void raise(const Error& error) { raise_object(exception_of(error)); }

void raise_bad_argument(std::string message) {
  Error error;
  error.code = Code::bad_argument;
  error.message = std::move(message);
  raise(error);
}

}  // namespace cdna::python
