// Metadata values as Python's own.
#include "cdna/metadata.hpp"

#include <nanobind/nanobind.h>

#include "container.hpp"
#include "python_error.hpp"

namespace cdna::python {

namespace nb = nanobind;

namespace {

struct ToPython {
  nb::object operator()(std::monostate) const { return nb::none(); }
  nb::object operator()(const std::string& text) const { return text_of(text); }
  nb::object operator()(const std::vector<std::byte>& bytes) const { return nb::bytes(bytes.data(), bytes.size()); }
  nb::object operator()(const JsonText& json) const { return text_of(json.text); }
  template <class T>
  nb::object operator()(T number) const {
    return nb::cast(number);
  }
};

// [(key, value, whether the value is JSON text)] in the order of the file.
nb::list metadata(const Container& container) {
  const auto opened = container.opened();
  const Metadata values = without_gil([&] { return opened->reader.metadata(); });
  nb::list entries;
  for (const auto& [key, value] : values)
    entries.append(
        nb::make_tuple(text_of(key), std::visit(ToPython{}, value), std::holds_alternative<JsonText>(value)));
  return entries;
}

}  // namespace

void add_metadata(nb::class_<Container>& container) { container.def("metadata", &metadata); }

}  // namespace cdna::python
