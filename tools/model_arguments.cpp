// --from, --sidecar, --skip, --shape.
#include "tools/model_arguments.hpp"

#include <CLI/CLI.hpp>
#include <vector>

namespace cdna::tools {

void add_model_options(CLI::App& app, const std::string& what, ModelArguments& arguments) {
  std::vector<std::string> names;
  for (const ModelFormat format : model_formats()) names.emplace_back(name_of(format));
  app.add_option("--from", arguments.from,
                 "What " + what + " is. auto: what its content says; hxzc, hxz2, helix-v2, helix-v3 and hxq are\n" +
                     "helix-substrate's, gguf-hxq is never found by content")
      ->check(CLI::IsMember(names))
      ->capture_default_str();
  app.add_option("--sidecar", arguments.sidecar,
                 "The outliers of an hxzc or hxz2 file, an HXZO file; else the one beside it, if there is one");
  app.add_option("--skip", arguments.skip,
                 "Of helix-v3 and hxq: shell pattern of tensor names that are left out unread; may be repeated")
      ->allow_extra_args(false);
  app.add_option(
         "--shape", arguments.shapes,
         "Of hxq: GLOB=ROWSxCOLS (either may be *), where nothing in the file tells the shape of a matrix; may be\n"
         "repeated")
      ->allow_extra_args(false);
}

ModelOptions model_options(const ModelArguments& arguments) {
  ModelOptions options;
  options.format = parse_model_format(arguments.from).value();
  options.sidecar = arguments.sidecar;
  options.skip = arguments.skip;
  options.shapes = arguments.shapes;
  return options;
}

}  // namespace cdna::tools
