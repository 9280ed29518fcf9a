// The buffer protocol, both ways.
#include "buffer.hpp"

#include <utility>

#include "gil.hpp"

namespace cdna::python {

namespace nb = nanobind;

namespace {

int get_buffer(PyObject* self, Py_buffer* view, int flags) {
  if (!nb::inst_ready(self)) {  // Made by __new__().
    PyErr_SetString(PyExc_BufferError, "there are no bytes");
    view->obj = nullptr;
    return -1;
  }
  const auto bytes = nb::inst_ptr<View>(self)->bytes();
  alignas(64) static std::byte nothing{};  // A buffer is never null, not even an empty one.
  void* const data = bytes.empty() ? &nothing : const_cast<std::byte*>(bytes.data());
  return PyBuffer_FillInfo(view, self, data, static_cast<Py_ssize_t>(bytes.size()), 1, flags);
}

const PyType_Slot kViewSlots[] = {{Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)}, {0, nullptr}};

}  // namespace

Borrowed::Borrowed(nb::handle object, int flags) {
  if (PyObject_GetBuffer(object.ptr(), &view_, flags) != 0) throw nb::python_error();
}

Borrowed Borrowed::bytes(nb::handle object, Access access) {
  return {object, access == Access::write ? PyBUF_CONTIG : PyBUF_CONTIG_RO};
}

Borrowed Borrowed::array(nb::handle object, Access access) {
  return {object, access == Access::write ? PyBUF_RECORDS : PyBUF_RECORDS_RO};
}

Borrowed::Borrowed(Borrowed&& other) noexcept : view_(std::exchange(other.view_, Py_buffer{})) {}

Borrowed::~Borrowed() {
  if (view_.obj != nullptr) PyBuffer_Release(&view_);
}

std::span<const std::byte> Borrowed::read() const {
  return {static_cast<const std::byte*>(view_.buf), static_cast<std::size_t>(view_.len)};
}

std::span<std::byte> Borrowed::write() const {
  return {static_cast<std::byte*>(view_.buf), static_cast<std::size_t>(view_.len)};
}

std::shared_ptr<const void> keep(Borrowed bytes) {
  return {new Borrowed(std::move(bytes)), [](const Borrowed* kept) {
            const GilHeld gil;
            if (gil) delete kept;  // What outlives the interpreter is left to the system.
          }};
}

void add_buffer(nb::module_& module) {
  nb::class_<View>(module, "View", nb::type_slots(kViewSlots)).def("__len__", [](const View& view) {
    return view.bytes().size();
  });
}

}  // namespace cdna::python
