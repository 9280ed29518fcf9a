// Every read asks the object, with the GIL.
#include "python_source.hpp"

#include <cstring>
#include <string>
#include <utility>

#include "buffer.hpp"
#include "libcdna/try.hpp"

namespace cdna::python {

namespace nb = nanobind;

namespace {

class PythonSource final : public Source {
 public:
  PythonSource(nb::object object, std::uint64_t size_bytes, std::string name)
      : object_(std::move(object)), size_bytes_(size_bytes), name_(std::move(name)) {}
  ~PythonSource() override {
    const nb::gil_scoped_acquire acquire;
    object_.reset();
  }
  std::uint64_t size_bytes() const override { return size_bytes_; }
  std::string_view name() const override { return name_; }
  Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    const nb::gil_scoped_acquire acquire;
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
      return fail(Code::io, "", "read_at() raised " + first_line(error), offset);
    }
  }

 private:
  static std::string first_line(const nb::python_error& error) {
    const nb::str text(error.value());
    const nb::str type(error.type().attr("__name__"));
    return std::string(type.c_str()) + ": " + text.c_str();
  }

  nb::object object_;
  std::uint64_t size_bytes_;
  std::string name_;
};

}  // namespace

std::unique_ptr<Source> python_source(const nb::object& object) {
  const auto size = nb::cast<std::uint64_t>(object.attr("size"));
  std::string name = "<source>";
  if (nb::hasattr(object, "name") && nb::isinstance<nb::str>(object.attr("name")))
    name = nb::cast<nb::str>(object.attr("name")).c_str();
  return std::make_unique<PythonSource>(object, size, std::move(name));
}

}  // namespace cdna::python
