// What cdna convert prints: the decisions before the work, the result after it.
#pragma once

#include "cdna/digest.hpp"
#include "cdna/import.hpp"
#include "tools/cdna/conversion.hpp"
#include "tools/cdna/convert_options.hpp"
#include "tools/cdna/plan.hpp"

namespace cdna::tools {

// The role table, the rules, and the decision for each tensor, for people.
void print_explanation(const Model& model, const Plan& plan);

struct Finished {
  const ConvertOptions& options;
  const Model& model;
  const Plan& plan;
  const Conversion& conversion;
  Digest root;
};

// Two or three lines for people, or the document cdna.convert/1.
void print_summary(const Finished& finished);
void print_document(const Finished& finished);

}  // namespace cdna::tools
