// Bytes of Python objects (the buffer protocol), and bytes that are offered to Python.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <memory>
#include <span>

namespace cdna::python {

// What an object offers through the buffer protocol. Made and destroyed with the GIL.
class Borrowed {
 public:
  enum class Access : bool { read, write };
  // Contiguous bytes. Raises BufferError or TypeError.
  static Borrowed bytes(nanobind::handle object, Access access = Access::read);
  // An array with shape, strides and item size.
  static Borrowed array(nanobind::handle object, Access access = Access::read);

  Borrowed(Borrowed&& other) noexcept;
  Borrowed& operator=(Borrowed&&) = delete;
  ~Borrowed();

  std::span<const std::byte> read() const;
  std::span<std::byte> write() const;  // Requires: Access::write.
  const Py_buffer& layout() const { return view_; }

 private:
  Borrowed(nanobind::handle object, int flags);
  Py_buffer view_{};
};

// Keeps `bytes` for as long as an owner lives that knows nothing of Python. Destroyed on any thread.
std::shared_ptr<const void> keep(Borrowed bytes);

// Read-only bytes for Python: memoryview(view), numpy.frombuffer(view). What they lie in lives as long as the view, and
// the view as long as anything that was made of it.
class View {
 public:
  View(std::shared_ptr<const void> owner, std::span<const std::byte> bytes) : owner_(std::move(owner)), bytes_(bytes) {}
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::shared_ptr<const void> owner_;
  std::span<const std::byte> bytes_;
};

// A view of a value that it owns.
template <class T>
std::span<const std::byte> bytes_of(const T& values) {
  return std::as_bytes(std::span(values));
}

void add_buffer(nanobind::module_& module);

}  // namespace cdna::python
