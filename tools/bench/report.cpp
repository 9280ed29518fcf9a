// Rows to text and JSON.
#include "tools/bench/report.hpp"

#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <thread>
#include <utility>

#include "cdna/cpu.hpp"
#include "cdna/digest.hpp"
#include "cdna/version.hpp"
#include "tools/text.hpp"

namespace cdna::tools::bench {
namespace {

using nlohmann::ordered_json;

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.compare(0, 10, "model name") == 0) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

std::string params_text(const ordered_json& params) {
  std::string text;
  for (const auto& [key, value] : params.items()) {
    if (!text.empty()) text += " ";
    text += key + "=" + (value.is_string() ? escape(value.get<std::string>()) : value.dump());
  }
  return text;
}

std::string goal_text(const Row& row) {
  if (!row.goal) return "";
  const char* const relation = row.goal->bound == Goal::Bound::min ? ">=" : "<=";
  const char* const suffix = row.goal->of == Goal::Of::ratio ? "x" : "";
  return fmt::format("{} {:g}{}: {}", relation, row.goal->limit, suffix, row.met() ? "met" : "MISSED");
}

// "gemv.cb8.f32.T bytes=... threads=1: 0.61x, goal >= 0.75x".
std::string missed_text(const Row& row) {
  const bool of_ratio = row.goal->of == Goal::Of::ratio;
  return fmt::format("{} {}: {:.4g}{}, goal {} {:g}{}", row.name, params_text(row.params),
                     of_ratio ? row.ratio() : row.value.median, of_ratio ? "x" : " " + row.unit,
                     row.goal->bound == Goal::Bound::min ? ">=" : "<=", row.goal->limit, of_ratio ? "x" : "");
}

ordered_json json_of(const Row& row) {
  ordered_json out{{"case", row.name}, {"params", row.params}, {"value", row.value.median}, {"unit", row.unit}};
  const bool compared = !row.reference.empty();
  out["reference"] = compared ? ordered_json(row.reference) : ordered_json(nullptr);
  out["reference_value"] = compared ? ordered_json(row.reference_value) : ordered_json(nullptr);
  out["ratio"] = compared ? ordered_json(row.ratio()) : ordered_json(nullptr);
  out["goal"] = nullptr;
  out["met"] = nullptr;
  if (row.goal) {
    out["goal"] = ordered_json::object();
    out["goal"]["of"] = row.goal->of == Goal::Of::ratio ? "ratio" : "value";
    out["goal"][row.goal->bound == Goal::Bound::min ? "min" : "max"] = row.goal->limit;
    out["met"] = row.met();
  }
  out["samples"] = {{"min", row.value.min}, {"median", row.value.median}, {"max", row.value.max}};
  return out;
}

// The references in the order of their rows, each once, with its cases.
std::vector<std::pair<std::string, std::string>> references_of(const std::vector<Row>& rows) {
  std::vector<std::pair<std::string, std::string>> references;
  std::set<std::pair<std::string, std::string>> seen;
  for (const Row& row : rows) {
    if (row.reference.empty() || !seen.emplace(row.reference, row.name).second) continue;
    const auto found = std::find_if(references.begin(), references.end(),
                                    [&row](const auto& reference) { return reference.first == row.reference; });
    if (found == references.end())
      references.emplace_back(row.reference, row.name);
    else
      found->second += ", " + row.name;
  }
  return references;
}

}  // namespace

Samples samples_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return {values.front(), values[values.size() / 2], values.back()};
}

bool Row::met() const {
  if (!goal) return true;
  const double figure = goal->of == Goal::Of::ratio ? ratio() : value.median;
  return goal->bound == Goal::Bound::min ? figure >= goal->limit : figure <= goal->limit;
}

void Report::begin_plainly() {
  const ordered_json host = machine();
  note(fmt::format("{}: {}, {} cores, SHA-256 by {}, kernels for {}\n", program_, host["cpu"].get<std::string>(),
                   host["cores"].get<int>(), host["sha256"].get<std::string>(), host["kernels"].get<std::string>()));
}

void Report::begin() {
  begin_plainly();
  note(fmt::format("{:<26} {:<44} {:>10} {:<6} {:>10} {:>6}  {}", "case", "parameters", "median", "unit", "reference",
                   "ratio", "goal"));
}

void Report::add(Row row) {
  const bool compared = !row.reference.empty();
  const std::string line =
      fmt::format("{:<26} {:<44} {:>10.4g} {:<6} {:>10} {:>6}  {}", row.name, params_text(row.params), row.value.median,
                  row.unit, compared ? fmt::format("{:.4g}", row.reference_value) : "",
                  compared ? fmt::format("{:.2f}", row.ratio()) : "", goal_text(row));
  add(std::move(row), line);
}

void Report::add(Row row, std::string_view line) {
  if (!line.empty()) note(line);
  rows_.push_back(std::move(row));
}

void Report::note(std::string_view line) {
  if (json_) return;
  fmt::print("{}\n", line);
  std::fflush(stdout);
}

void Report::finish() {
  if (json_) {
    ordered_json out{{"schema", "cdna.bench/1"}, {"machine", machine()}, {"rows", ordered_json::array()}};
    for (const Row& row : rows_) out["rows"].push_back(json_of(row));
    print_json(out);
    return;
  }
  const auto has_goal = [](const Row& row) { return row.goal.has_value(); };
  const auto missed = [](const Row& row) { return !row.met(); };
  fmt::print("\n{} of {} goals met. References:\n",
             std::count_if(rows_.begin(), rows_.end(), has_goal) - std::count_if(rows_.begin(), rows_.end(), missed),
             std::count_if(rows_.begin(), rows_.end(), has_goal));
  for (const auto& [reference, cases] : references_of(rows_)) fmt::print("  {}: {}\n", cases, reference);
  if (std::any_of(rows_.begin(), rows_.end(), missed)) fmt::print("Missed:\n");
  for (const Row& row : rows_) {
    if (missed(row)) fmt::print("  {}\n", missed_text(row));
  }
}

ordered_json machine() {
  utsname system{};
  uname(&system);
  const auto pages = static_cast<std::uint64_t>(std::max(0L, sysconf(_SC_PHYS_PAGES)));
  const auto page_bytes = static_cast<std::uint64_t>(std::max(0L, sysconf(_SC_PAGESIZE)));
  return {{"cpu", cpu_name()},
          {"cores", std::thread::hardware_concurrency()},
          {"memory_bytes", pages * page_bytes},
          {"system", fmt::format("{} {} {}", system.sysname, system.release, system.machine)},
          {"library", kLibraryVersion},
          {"compiler", __VERSION__},
          {"sha256", sha256_implementation()},
          {"kernels", instruction_set()}};
}

}  // namespace cdna::tools::bench
