// What becomes of a tensor that is to be compressed.
#include "cdna/policy.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <string_view>
#include <vector>

#include "container.hpp"
#include "python_error.hpp"

namespace cdna::python {

namespace nb = nanobind;

namespace {

nb::tuple decide_tensor(std::string_view preset_text, std::string_view name, std::string_view dtype,
                        const std::vector<std::uint64_t>& shape, bool by_name) {
  const Preset wanted = value_of(parse_preset(preset_text));
  const Asked asked = by_name ? Asked::by_name : Asked::for_all;
  const Decision decision = decide(wanted, name, dtype_named(dtype), shape, asked);
  return nb::make_tuple(text_of(name_of(decision.preset)), text_of(name_of(decision.role)), text_of(decision.reason));
}

}  // namespace

void add_policy(nb::module_& module) { module.def("decide", &decide_tensor); }

}  // namespace cdna::python
