// Arrays through DLPack: capsules for others, and the arrays in their capsules.
#include "dlpack.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "container.hpp"
#include "python_error.hpp"

namespace cdna::python {

namespace nb = nanobind;

namespace {

constexpr const char* kPlain = "dltensor";
constexpr const char* kVersioned = "dltensor_versioned";

struct TypeRow {
  DType dtype;
  dlpack::TypeCode code;
  std::uint8_t bits;
  const char* format;  // Of the buffer protocol; of what it does not know, the bits.
};
constexpr TypeRow kTypes[] = {
    {DType::boolean, dlpack::kBool, 8, "?"},
    {DType::u8, dlpack::kUint, 8, "B"},
    {DType::i8, dlpack::kInt, 8, "b"},
    {DType::u16, dlpack::kUint, 16, "H"},
    {DType::i16, dlpack::kInt, 16, "h"},
    {DType::u32, dlpack::kUint, 32, "I"},
    {DType::i32, dlpack::kInt, 32, "i"},
    {DType::u64, dlpack::kUint, 64, "Q"},
    {DType::i64, dlpack::kInt, 64, "q"},
    {DType::f16, dlpack::kFloat, 16, "e"},
    {DType::bf16, dlpack::kBfloat, 16, "H"},
    {DType::f32, dlpack::kFloat, 32, "f"},
    {DType::f64, dlpack::kFloat, 64, "d"},
    {DType::c64, dlpack::kComplex, 64, "Zf"},
    {DType::f8_e4m3, dlpack::kFloat8E4m3fn, 8, "B"},
    {DType::f8_e5m2, dlpack::kFloat8E5m2, 8, "B"},
    {DType::f8_e8m0, dlpack::kFloat8E8m0fnu, 8, "B"},
    {DType::f8_e4m3fnuz, dlpack::kFloat8E4m3fnuz, 8, "B"},
    {DType::f8_e5m2fnuz, dlpack::kFloat8E5m2fnuz, 8, "B"},
};

// ---- Out ----

// What a capsule's tensor points at.
struct Exported {
  std::shared_ptr<const void> owner;
  std::vector<std::int64_t> shape, strides;
  dlpack::Managed plain{};
  dlpack::ManagedVersioned versioned{};

  void fill(dlpack::Tensor& tensor, void* data, const TypeRow& type) {
    strides.resize(shape.size());
    std::int64_t stride = 1;
    for (std::size_t i = shape.size(); i-- > 0; stride *= std::max<std::int64_t>(shape[i], 1)) strides[i] = stride;
    tensor = {data,
              {dlpack::kCpu, 0},
              static_cast<std::int32_t>(shape.size()),
              {type.code, type.bits, 1},
              shape.data(),
              strides.data(),
              0};
  }
};

// A capsule that nobody took still has its first name.
template <class Managed>
void destroy_capsule(PyObject* capsule, const char* name) {
  if (!PyCapsule_IsValid(capsule, name)) return;
  auto* const managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, name));
  if (managed->deleter != nullptr) managed->deleter(managed);
}

nb::object capsule_of(void* managed, const char* name, PyCapsule_Destructor destructor) {
  PyObject* const capsule = PyCapsule_New(managed, name, destructor);
  if (capsule == nullptr) throw nb::python_error();
  return nb::steal(capsule);
}

nb::object to_dlpack(const nb::object& array, std::string_view dtype_name, std::vector<std::int64_t> shape,
                     bool versioned, std::uint64_t flags) {
  const DType dtype = dtype_named(dtype_name);
  const auto* const type =
      std::find_if(std::begin(kTypes), std::end(kTypes), [&](const TypeRow& row) { return row.dtype == dtype; });
  if (type == std::end(kTypes)) {
    PyErr_Format(PyExc_BufferError, "DLPack has no %s", std::string(dtype_name).c_str());
    throw nb::python_error();
  }
  auto exported = std::make_unique<Exported>();
  Borrowed borrowed = Borrowed::bytes(array);
  void* const data = borrowed.layout().buf;
  exported->owner = keep(std::move(borrowed));
  exported->shape = std::move(shape);
  if (versioned) {
    dlpack::ManagedVersioned& managed = exported->versioned;
    managed.version = {1, 1};
    managed.flags = flags;
    managed.deleter = [](dlpack::ManagedVersioned* self) { delete static_cast<Exported*>(self->context); };
    exported->fill(managed.tensor, data, *type);
    managed.context = exported.get();
    nb::object capsule = capsule_of(
        &managed, kVersioned, [](PyObject* self) { destroy_capsule<dlpack::ManagedVersioned>(self, kVersioned); });
    (void)exported.release();
    return capsule;
  }
  dlpack::Managed& managed = exported->plain;
  managed.deleter = [](dlpack::Managed* self) { delete static_cast<Exported*>(self->context); };
  exported->fill(managed.tensor, data, *type);
  managed.context = exported.get();
  nb::object capsule =
      capsule_of(&managed, kPlain, [](PyObject* self) { destroy_capsule<dlpack::Managed>(self, kPlain); });
  (void)exported.release();
  return capsule;
}

// ---- In ----

// The array in a capsule, which is taken out of it, as a buffer.
class Imported {
 public:
  explicit Imported(const nb::object& capsule) {
    if (PyCapsule_IsValid(capsule.ptr(), kVersioned)) {
      auto* const managed = static_cast<dlpack::ManagedVersioned*>(PyCapsule_GetPointer(capsule.ptr(), kVersioned));
      if (managed->version.major != 1) raise_bad_argument("the array's version of DLPack is not 1.x");
      read(managed->tensor);
      read_only_ = (managed->flags & dlpack::kReadOnly) != 0;
      take(capsule, "used_dltensor_versioned", managed);
    } else if (PyCapsule_IsValid(capsule.ptr(), kPlain)) {
      auto* const managed = static_cast<dlpack::Managed*>(PyCapsule_GetPointer(capsule.ptr(), kPlain));
      read(managed->tensor);
      take(capsule, "used_dltensor", managed);
    } else {
      raise_bad_argument("not a DLPack capsule, or one that was used before");
    }
  }
  std::string_view dtype() const { return name_of(type_->dtype); }

  int fill(PyObject* self, Py_buffer* view, int flags) const {
    if ((flags & PyBUF_WRITABLE) != 0 && read_only_) {
      PyErr_SetString(PyExc_BufferError, "the array is read-only");
      view->obj = nullptr;
      return -1;
    }
    if ((flags & PyBUF_STRIDES) != PyBUF_STRIDES) {
      PyErr_SetString(PyExc_BufferError, "the array has strides");
      view->obj = nullptr;
      return -1;
    }
    *view = {};
    view->buf = data_;
    view->obj = Py_NewRef(self);
    view->itemsize = type_->bits / 8;
    view->len = view->itemsize;
    for (const Py_ssize_t size : shape_) view->len *= size;
    view->readonly = read_only_;
    view->ndim = static_cast<int>(shape_.size());
    view->format = (flags & PyBUF_FORMAT) != 0 ? const_cast<char*>(type_->format) : nullptr;
    view->shape = const_cast<Py_ssize_t*>(shape_.data());
    view->strides = const_cast<Py_ssize_t*>(strides_.data());
    return 0;
  }

 private:
  void read(const dlpack::Tensor& tensor) {
    if (tensor.device.type != dlpack::kCpu && tensor.device.type != dlpack::kCudaHost)
      raise_bad_argument("the array is not in the memory of the CPU");
    type_ = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const TypeRow& row) {
      return row.code == tensor.dtype.code && row.bits == tensor.dtype.bits && tensor.dtype.lanes == 1;
    });
    if (type_ == std::end(kTypes))
      raise_bad_argument("the format has no elements of DLPack's type " + std::to_string(tensor.dtype.code) + ", " +
                         std::to_string(tensor.dtype.bits) + " bits");
    const auto ndim = static_cast<std::size_t>(tensor.ndim);
    shape_.assign(tensor.shape, tensor.shape + ndim);
    strides_.resize(ndim);
    Py_ssize_t stride = type_->bits / 8;
    for (std::size_t i = ndim; i-- > 0; stride *= shape_[i])
      strides_[i] = tensor.strides != nullptr ? tensor.strides[i] * (type_->bits / 8) : stride;
    data_ = static_cast<std::byte*>(tensor.data) + tensor.byte_offset;
  }
  template <class Managed>
  void take(const nb::object& capsule, const char* name, Managed* managed) {
    if (PyCapsule_SetName(capsule.ptr(), name) != 0) throw nb::python_error();
    managed_ = std::shared_ptr<void>(managed, [](Managed* self) {
      if (self->deleter != nullptr) self->deleter(self);
    });
  }

  std::shared_ptr<void> managed_;
  void* data_ = nullptr;
  const TypeRow* type_ = nullptr;
  std::vector<Py_ssize_t> shape_, strides_;
  bool read_only_ = false;
};

int get_buffer(PyObject* self, Py_buffer* view, int flags) {
  if (!nb::inst_ready(self)) {  // Made by __new__().
    PyErr_SetString(PyExc_BufferError, "there are no bytes");
    view->obj = nullptr;
    return -1;
  }
  return nb::inst_ptr<Imported>(self)->fill(self, view, flags);
}

const PyType_Slot kImportedSlots[] = {{Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)}, {0, nullptr}};

}  // namespace

void add_dlpack(nb::module_& module) {
  nb::class_<Imported>(module, "Imported", nb::type_slots(kImportedSlots))
      .def_prop_ro("dtype", [](const Imported& self) { return text_of(self.dtype()); });
  module.def("to_dlpack", &to_dlpack);
  module.def("from_dlpack", [](const nb::object& capsule) { return Imported(capsule); });
}

}  // namespace cdna::python
