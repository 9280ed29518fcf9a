// Opening, closing, looking up.
#include "container.hpp"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "cdna/policy.hpp"
#include "python_error.hpp"
#include "python_source.hpp"

namespace cdna::python {

namespace nb = nanobind;

namespace {

[[noreturn]] void raise_plain(PyObject* type, const std::string& message) {
  PyErr_SetString(type, message.c_str());
  throw nb::python_error();
}

std::string string_of(const nb::bytes& bytes) { return {bytes.c_str(), bytes.size()}; }

// ---- Opening ----

Io io_named(std::string_view name) {
  if (name == "auto") return Io::automatic;
  if (name == "mmap") return Io::mmap;
  if (name == "pread") return Io::pread;
  raise_bad_argument("io is \"" + std::string(name) + "\": \"auto\", \"mmap\" or \"pread\"");
}

Trust trust_named(std::string_view name) {
  if (name == "auto") return Trust::automatic;
  if (name == "zero_copy") return Trust::zero_copy;
  if (name == "strict") return Trust::strict;
  raise_bad_argument("trust is \"" + std::string(name) + "\": \"auto\", \"zero_copy\" or \"strict\"");
}

// What cdna.open() takes beside the place.
struct Wanted {
  OpenOptions options;
  Wanted(std::string_view io, std::string_view trust, const std::optional<nb::bytes>& root,
         std::uint64_t footer_bytes_max, std::uint64_t items_max, std::uint64_t tensor_decoded_bytes_max) {
    options.io = io_named(io);
    options.trust = trust_named(trust);
    options.limits = {footer_bytes_max, items_max, tensor_decoded_bytes_max};
    if (!root) return;
    Digest digest;
    if (root->size() != digest.size()) raise_bad_argument("expected_root is not 32 bytes");
    std::memcpy(digest.data(), root->c_str(), digest.size());
    options.expected_root = digest;
  }
};

Container contain(Reader reader, std::shared_ptr<const void> memory = nullptr) {
  return Container(std::make_shared<Opened>(std::move(memory), std::move(reader)));
}

Container open_path(const nb::bytes& path, const Wanted& wanted) {
  const std::string name = string_of(path);
  return contain(without_gil([&] { return Reader::open(name, wanted.options); }));
}

Container open_descriptor(int descriptor, const Wanted& wanted) {
  return contain(without_gil([&]() -> Result<Reader> {
    auto source = open_source(descriptor, wanted.options.io);
    if (!source) return std::move(source).error();
    return Reader::open(*std::move(source), wanted.options);
  }));
}

// Whether nobody can change what `object` offers: it is bytes, or views of bytes. Read-only is less: a read-only view
// of a bytearray, or of a mapping, changes with it.
bool is_immutable(nb::handle object) {
  PyObject* base = object.ptr();
  while (base != nullptr && PyMemoryView_Check(base)) base = PyMemoryView_GET_BASE(base);
  return base != nullptr && PyBytes_Check(base);
}

// Bytes that can change are read as those of a file that somebody may change: strict, unless the caller says that
// nobody does.
Container open_bytes(const nb::object& object, const Wanted& wanted) {
  Borrowed borrowed = Borrowed::bytes(object);
  const std::span<const std::byte> bytes = borrowed.read();
  const bool promised = wanted.options.trust == Trust::zero_copy && borrowed.layout().readonly != 0;
  const bool fixed = promised || is_immutable(object);
  std::shared_ptr<const void> memory = keep(std::move(borrowed));
  return contain(without_gil([&] { return Reader::open(memory_source(bytes, fixed), wanted.options); }),
                 std::move(memory));
}

Container open_object(const nb::object& object, const Wanted& wanted) {
  std::unique_ptr<Source> source = python_source(object);
  std::shared_ptr<const void> exceptions = keep_exceptions(*source);
  return contain(without_gil([&] { return Reader::open(std::move(source), wanted.options); }), std::move(exceptions));
}

template <class Place>
auto opener(Container (*open)(Place, const Wanted&)) {
  return [open](Place place, std::string_view io, std::string_view trust, const std::optional<nb::bytes>& root,
                std::uint64_t footer_bytes_max, std::uint64_t items_max, std::uint64_t tensor_decoded_bytes_max) {
    return open(place, Wanted(io, trust, root, footer_bytes_max, items_max, tensor_decoded_bytes_max));
  };
}

// ---- Looking up ----

nb::bytes digest_bytes(const Digest& digest) { return nb::bytes(digest.data(), digest.size()); }

nb::list names(const Container& container) {
  const auto opened = container.opened();
  nb::list names;
  for (std::uint32_t i = 0; i < opened->reader.tensor_count(); ++i)
    names.append(text_of(opened->reader.tensor_item(i).name()));
  return names;
}

std::optional<std::uint32_t> find(const Container& container, std::string_view name) {
  const auto tensor = container.opened()->reader.find(name);
  return tensor ? std::optional(tensor->number()) : std::nullopt;
}

// What the footer says of a tensor.
nb::dict describe(const Container& container, std::uint32_t number) {
  const auto opened = container.opened();
  const Item item = container.item(number);
  nb::dict fields;
  fields["name"] = text_of(item.name());
  fields["dtype"] = text_of(name_of(item.dtype()));
  fields["encoding"] = text_of(item.type());
  fields["role"] = text_of(name_of(item.role()));
  nb::list shape;
  for (const std::uint64_t size : item.shape()) shape.append(size);
  fields["shape"] = nb::tuple(shape);
  fields["rows"] = item.rows();
  fields["cols"] = item.cols();
  fields["source_bytes"] = item.source_bytes();
  fields["stored_bytes"] = item.stored_bytes();
  fields["sum_squares"] = item.sum_squares();
  fields["sum_squared_error"] = item.sum_squared_error();
  fields["max_abs_error"] = item.max_abs_error();
  fields["may_be_nonfinite"] = item.may_be_nonfinite();
  fields["source_digest"] = digest_bytes(item.source_digest());
  return fields;
}

nb::list asset_items(const Container& container) {
  const auto opened = container.opened();
  nb::list assets;
  for (std::uint32_t i = 0; i < opened->reader.item_count(); ++i) {
    const Item item = opened->reader.item(i);
    if (item.kind() == ItemKind::asset)
      assets.append(nb::make_tuple(text_of(item.name()), text_of(item.type()), item.cols(), i));
  }
  return assets;
}

void read_asset(const Container& container, std::uint32_t number, std::uint64_t offset, const nb::object& out) {
  const auto opened = container.opened();
  const Asset asset(container.item(number));
  const Borrowed borrowed = Borrowed::bytes(out, Borrowed::Access::write);
  const std::span<std::byte> bytes = borrowed.write();
  if (offset > asset.size_bytes() || bytes.size() > asset.size_bytes() - offset)
    raise_bad_argument("the range is not within the asset");
  without_gil([&] { return asset.read(offset, bytes); });
}

nb::dict statistics(const Container& container) {
  const ReadStatistics counted = container.opened()->reader.statistics();
  nb::dict fields;
  fields["bytes_read"] = counted.bytes_read;
  fields["bytes_hashed"] = counted.bytes_hashed;
  fields["bytes_decoded"] = counted.bytes_decoded;
  fields["blocks_verified"] = counted.blocks_verified;
  fields["blocks_decoded"] = counted.blocks_decoded;
  fields["blocks_reused"] = counted.blocks_reused;
  fields["read_ns"] = counted.read_ns;
  fields["verify_ns"] = counted.verify_ns;
  fields["decode_ns"] = counted.decode_ns;
  return fields;
}

// A tensor's own figures, with its statistics plane.
nb::dict tensor_statistics(const Container& container, std::uint32_t number) {
  const auto opened = container.opened();
  const Tensor tensor = container.tensor(number);
  const TensorStatistics recorded = without_gil([&] { return tensor.statistics(); });
  nb::dict fields;
  fields["outlier_count"] = recorded.outlier_count;
  fields["excess_kurtosis"] = recorded.excess_kurtosis;
  fields["code_entropy_bits"] = recorded.code_entropy_bits;
  return fields;
}

nb::object source_bytes(const Container& container) {
  const auto opened = container.opened();
  const std::span<const std::byte> mapping = opened->reader.source().mapping();
  if (mapping.empty()) return nb::none();
  return nb::cast(container.view(mapping));
}

// ---- Cycles: a source that keeps the file which reads it ----

int traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  if (!nb::inst_ready(self)) return 0;
  return nb::inst_ptr<Container>(self)->visit([&](nb::handle held) {
    Py_VISIT(held.ptr());
    return 0;
  });
}

int clear(PyObject* self) {
  if (nb::inst_ready(self)) nb::inst_ptr<Container>(self)->release();
  return 0;
}

const PyType_Slot kContainerSlots[] = {
    {Py_tp_traverse, reinterpret_cast<void*>(traverse)}, {Py_tp_clear, reinterpret_cast<void*>(clear)}, {0, nullptr}};

}  // namespace

int Container::visit(const std::function<int(nb::handle)>& visitor) const {
  // What others share is held by them too.
  if (opened_ == nullptr || opened_.use_count() != 1) return 0;
  const nb::handle object = object_behind(opened_->reader.source());
  return object.is_valid() ? visitor(object) : 0;
}

std::shared_ptr<Opened> Container::opened() const {
  if (opened_ == nullptr) raise_plain(PyExc_ValueError, "the file is closed");
  return opened_;
}

void Container::close() {
  if (opened_ == nullptr) return;
  const std::uint64_t views = opened_->views.load();
  if (views != 0)
    raise_plain(PyExc_BufferError, "cannot close: " + std::to_string(views) + " arrays still point into the file");
  std::shared_ptr<Opened> last = std::exchange(opened_, nullptr);
  const GilReleased released;  // Unmapping may take a while.
  last.reset();
}

View Container::view(std::span<const std::byte> bytes) const {
  std::shared_ptr<Opened> counted = opened();
  counted->views.fetch_add(1);
  Opened* const raw = counted.get();
  return {
      std::shared_ptr<const void>(raw, [counted = std::move(counted)](const void*) { counted->views.fetch_sub(1); }),
      bytes};
}

Item Container::item(std::uint32_t number) const {
  const auto holder = opened();
  if (number >= holder->reader.item_count()) throw nb::index_error("no such item");
  return holder->reader.item(number);
}

Tensor Container::tensor(std::uint32_t number) const {
  const Item found = item(number);
  if (found.kind() != ItemKind::tensor) throw nb::index_error("no such tensor");
  return opened_->reader.resolve(found);
}

DType dtype_named(std::string_view name) {
  const auto dtype = dtype_of(name);
  if (!dtype) raise_bad_argument("\"" + std::string(name) + "\" is no dtype of the format");
  return *dtype;
}

void add_container(nb::module_& module) {
  nb::class_<Container> container(module, "Container", nb::type_slots(kContainerSlots));
  module.def("open_path", opener(&open_path));
  module.def("open_descriptor", opener(&open_descriptor));
  module.def("open_bytes", opener(&open_bytes));
  module.def("open_object", opener(&open_object));
  container.def("close", &Container::close)
      .def_prop_ro("closed", &Container::closed)
      .def_prop_ro("views", [](const Container& self) { return self.opened()->views.load(); })
      .def_prop_ro("root", [](const Container& self) { return digest_bytes(self.opened()->reader.root()); })
      .def_prop_ro("file_bytes", [](const Container& self) { return self.opened()->reader.file_bytes(); })
      .def_prop_ro("tensor_count", [](const Container& self) { return self.opened()->reader.tensor_count(); })
      .def_prop_ro("backend", [](const Container& self) { return text_of(self.opened()->reader.source().backend()); })
      .def_prop_ro("trust",
                   [](const Container& self) {
                     return self.opened()->reader.trust() == Trust::zero_copy ? "zero_copy" : "strict";
                   })
      .def("buffer", &source_bytes)
      .def("names", &names)
      .def("find", &find)
      .def("describe", &describe)
      .def("asset_items", &asset_items)
      .def("read_asset", &read_asset)
      .def("statistics", &statistics)
      .def("tensor_statistics", &tensor_statistics);
  add_decode(container);
  add_matmul(container);
  add_metadata(container);
  add_planes(module, container);
  add_verify(container);
}

}  // namespace cdna::python
