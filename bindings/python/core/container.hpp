// An open file as Python has it: a Reader with what it reads from, and how many views point into it.
#pragma once

#include <nanobind/nanobind.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "buffer.hpp"
#include "cdna/reader.hpp"

namespace cdna::python {

// Lives as long as a Container, a view, or a call that runs without the GIL.
struct Opened {
  Opened(std::shared_ptr<const void> memory_below, Reader opened)
      : memory(std::move(memory_below)), reader(std::move(opened)) {}
  std::shared_ptr<const void> memory;  // What the reader's source borrows. Null: nothing.
  Reader reader;
  std::atomic<std::uint64_t> views{0};
};

class Container {
 public:
  explicit Container(std::shared_ptr<Opened> opened) : opened_(std::move(opened)) {}

  // Raises ValueError where the file is closed.
  std::shared_ptr<Opened> opened() const;
  bool closed() const { return opened_ == nullptr; }
  // Raises BufferError while there are views. A call that runs meanwhile in another thread ends as if nothing had been.
  void close();
  // A view that counts. `bytes` lie in the reader's mapping or memory.
  View view(std::span<const std::byte> bytes) const;

  // For the garbage collector. visit() gives what `visitor` gives for the object that the file is read from, or 0 where
  // it is not of Python's or others hold it too; release() closes the file.
  int visit(const std::function<int(nanobind::handle)>& visitor) const;
  void release() { std::shared_ptr<Opened>().swap(opened_); }

  // Raises IndexError.
  Item item(std::uint32_t number) const;
  Tensor tensor(std::uint32_t number) const;

 private:
  std::shared_ptr<Opened> opened_;
};

// The dtype of that name. Raises ValueError.
DType dtype_named(std::string_view name);

void add_container(nanobind::module_& module);
void add_convert(nanobind::module_& module);
void add_decode(nanobind::class_<Container>& container);
void add_dlpack(nanobind::module_& module);
void add_encode(nanobind::module_& module);
void add_environment(nanobind::module_& module);
void add_matmul(nanobind::class_<Container>& container);
void add_metadata(nanobind::class_<Container>& container);
void add_pack(nanobind::module_& module);
void add_planes(nanobind::module_& module, nanobind::class_<Container>& container);
void add_policy(nanobind::module_& module);
void add_verify(nanobind::class_<Container>& container);

}  // namespace cdna::python
