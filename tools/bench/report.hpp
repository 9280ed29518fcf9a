// What a benchmark found: rows with a reference measured in the same run, as a table or as one JSON document.
#pragma once

#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/json.hpp"

namespace cdna::tools::bench {

// Of the repetitions of one measurement.
struct Samples {
  double min = 0;
  double median = 0;
  double max = 0;
};
// Requires: not empty.
Samples samples_of(std::vector<double> values);

struct Goal {
  enum class Of { value, ratio } of = Of::value;
  enum class Bound { min, max } bound = Bound::max;
  double limit = 0;
};

// One figure. `ratio` is value / reference_value, medians both, in the same unit.
struct Row {
  std::string name;  // The case.
  nlohmann::ordered_json params = nlohmann::ordered_json::object();
  Samples value;
  std::string unit;
  std::string reference;  // What it is compared with; "" for nothing.
  double reference_value = 0;
  std::optional<Goal> goal;

  double ratio() const { return value.median / reference_value; }
  bool met() const;
};

class Report {
 public:
  // `program` for the heading ("cdna bench io"); as JSON nothing is printed before finish().
  Report(std::string program, bool json) : program_(std::move(program)), json_(json) {}
  void begin();          // With the head of a table for add(Row).
  void begin_plainly();  // Without one: lines are the caller's.
  void add(Row row);
  // Prints `line` instead of the row; "" prints nothing.
  void add(Row row, std::string_view line);
  // A line among those of the rows, for people: not in the document.
  void note(std::string_view line);
  // Prints the document, schema cdna.bench/1, or the sum of goals met, the references, and the goals that were missed.
  void finish();

 private:
  std::string program_;
  bool json_;
  std::vector<Row> rows_;
};

// CPU, cores, memory, kernel, library version and build, SHA-256 implementation.
nlohmann::ordered_json machine();

}  // namespace cdna::tools::bench
