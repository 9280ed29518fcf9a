// Every read asks the object, with the GIL.
#include "python_source.hpp"

#include <cstring>
#include <string>
#include <utility>

#include "buffer.hpp"
#include "libcdna/try.hpp"
#include "python_error.hpp"

namespace cdna::python {

namespace nb = nanobind;

namespace {

class PythonSource final : public Source {
 public:
  PythonSource(nb::object object, std::uint64_t size_bytes, std::string name)
      : object_(std::move(object)), size_bytes_(size_bytes), name_(std::move(name)) {}
  ~PythonSource() override {
    const GilHeld gil;
    if (!gil) (void)object_.release();  // What outlives the interpreter is left to the system.
    object_.reset();
  }
  std::uint64_t size_bytes() const override { return size_bytes_; }
  std::string_view name() const override { return name_; }
  Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    const GilHeld gil;
    if (!gil) return fail(Code::io, "", "the interpreter has ended", offset);
    return run_python([&] { return ask(offset, out); });
  }

 private:
  // Lets nothing out but std::bad_alloc.
  Result<void> ask(std::uint64_t offset, std::span<std::byte> out) const {
    try {
      const nb::object answer = object_.attr("read_at")(offset, out.size());
      const Borrowed bytes = Borrowed::bytes(answer);
      if (bytes.read().size() != out.size())
        return fail(
            Code::io, "",
            "read_at() gave " + std::to_string(bytes.read().size()) + " bytes instead of " + std::to_string(out.size()),
            offset);
      if (!out.empty()) std::memcpy(out.data(), bytes.read().data(), out.size());
      return {};
    } catch (nb::python_error& error) {
      return fail(Code::io, "", "read_at() raised " + description_of(error), offset);
    }
  }
  // Of an exception whose __str__ raises, the class alone.
  static std::string description_of(const nb::python_error& error) {
    std::string type = reinterpret_cast<PyTypeObject*>(error.type().ptr())->tp_name;
    type.erase(0, type.rfind('.') + 1);
    try {
      return type + ": " + utf8_of(nb::str(error.value()));
    } catch (nb::python_error&) {
      return type;
    }
  }

  nb::object object_;
  std::uint64_t size_bytes_;
  std::string name_;
};

}  // namespace

std::unique_ptr<Source> python_source(const nb::object& object) {
  const auto size = nb::cast<std::uint64_t>(object.attr("size"));
  std::string name = "<source>";
  if (nb::hasattr(object, "name") && nb::isinstance<nb::str>(object.attr("name"))) name = utf8_of(object.attr("name"));
  return std::make_unique<PythonSource>(object, size, std::move(name));
}

}  // namespace cdna::python
