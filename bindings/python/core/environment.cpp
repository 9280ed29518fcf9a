// What this build and this machine are.
#include <nanobind/nanobind.h>

#include <string>

#include "cdna/cpu.hpp"
#include "cdna/digest.hpp"
#include "cdna/policy.hpp"
#include "cdna/preset.hpp"
#include "cdna/version.hpp"
#include "container.hpp"
#include "python_error.hpp"

namespace cdna::python {

namespace nb = nanobind;

namespace {

nb::dict environment() {
  nb::dict fields;
  fields["version"] = text_of(kLibraryVersion);
#if defined(__clang__)
  fields["compiler"] = text_of("clang " __clang_version__);
#else
  fields["compiler"] = text_of("g++ " __VERSION__);
#endif
  nb::list available;
  for (const Isa isa : kIsas)
    if (is_available(isa)) available.append(text_of(name_of(isa)));
  fields["instruction_sets"] = nb::tuple(available);
  fields["instruction_set"] = text_of(instruction_set());
  fields["sha256"] = text_of(sha256_implementation());
  return fields;
}

nb::tuple presets() {
  nb::list names;
  for (const std::string_view name : preset_names()) names.append(text_of(name));
  return nb::tuple(names);
}

}  // namespace

void add_environment(nb::module_& module) {
  module.def("environment", &environment);
  module.def("presets", &presets);
  module.attr("version") = text_of(kLibraryVersion);
}

}  // namespace cdna::python
