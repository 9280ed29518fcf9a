// What cdna convert was asked for, and the library's options that it means.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cdna/convert.hpp"
#include "tools/model_arguments.hpp"

namespace cdna::tools {

struct ConvertArguments {
  std::string source;
  std::string destination;
  ModelArguments model;
  std::string encoding = "exact";
  std::optional<std::string> policy;  // Path.
  std::optional<std::string> embeddings;
  std::string codec = "raw";
  std::string nonfinite = "refuse";
  std::optional<std::string> bits_per_weight;  // As written.
  std::optional<std::string> target_size;      // Likewise.
  std::vector<std::string> candidates;
  std::vector<std::string> keep_exact;
  unsigned threads = 0;
  bool explain = false;
  bool force = false;
  bool json = false;
};

// Reads the policy file, and checks all that needs no model. Errors: bad_argument (which option, and what would be
// right), those of opening the policy file and of parse_policy().
Result<ConvertOptions> parse_arguments(const ConvertArguments& arguments);

// The library's messages name fields of ConvertOptions; here they are called as on the command line, with numbers as
// they were written there.
Error with_option_names(const ConvertArguments& arguments, Error error);
std::string note_with_option_names(const std::string& note);

// "--keep-exact", "--embeddings", "rule 2", "--encoding".
std::string origin_text(const PlanRule& rule);
// Why a tensor gets what it gets, where a rule for it is there.
std::string reason_text(const Plan& plan, const TensorPlan& tensor);

}  // namespace cdna::tools
