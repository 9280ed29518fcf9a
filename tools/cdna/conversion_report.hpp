// What cdna convert prints: the decisions before the work, the result after it.
#pragma once

#include <string>

#include "cdna/convert.hpp"

namespace cdna::tools {

// The role table, the rules, and the decision for each tensor, for people.
void print_explanation(const Model& model, const Plan& plan);

struct Finished {
  const std::string& destination;
  const Model& model;
  const Plan& plan;
  const ConvertReport& report;
};

// Two or three lines for people, or the document cdna.convert/1.
void print_summary(const Finished& finished);
void print_document(const Finished& finished);

}  // namespace cdna::tools
