// How a tool's command line says what a model is that is no CDNA file.
#pragma once

#include <string>
#include <vector>

#include "cdna/import.hpp"

namespace CLI {
class App;
}

namespace cdna::tools {

struct ModelArguments {
  std::string from = "auto";
  std::string sidecar;
  std::vector<std::string> skip;
  std::vector<std::string> shapes;
};

// --from, --sidecar, --skip and --shape. `what` is the model in help texts: "SRC". Requires: `arguments` outlives the app.
void add_model_options(CLI::App& app, const std::string& what, ModelArguments& arguments);

// Requires: the app has parsed them.
ModelOptions model_options(const ModelArguments& arguments);

}  // namespace cdna::tools
