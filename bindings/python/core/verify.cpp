// Checking a file, or some of its tensors, with progress and Ctrl-C.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <string>
#include <utility>

#include "cdna/fsck.hpp"
#include "container.hpp"
#include "interruptible.hpp"
#include "python_error.hpp"
#include "threads.hpp"

namespace cdna::python {

namespace nb = nanobind;

namespace {

FsckLevel level_named(std::string_view name) {
  if (name == "quick") return FsckLevel::quick;
  if (name == "standard") return FsckLevel::standard;
  if (name == "deep") return FsckLevel::deep;
  raise_bad_argument("level is \"" + std::string(name) + "\": \"quick\", \"standard\" or \"deep\"");
}

nb::tuple report_of(const FsckReport& report) {
  nb::list problems;
  for (const FsckProblem& problem : report.problems) problems.append(exception_of(problem.error));
  return nb::make_tuple(report.valid, report.complete, report.item_count, report.unsupported_count,
                        report.blocks_checked, report.problem_count, problems);
}

// The whole file. Returns (valid, complete, items, unsupported, blocks, problem count, exceptions).
nb::tuple verify(const Container& container, std::string_view level, const nb::object& callback,
                 std::uint64_t threads) {
  const auto opened = container.opened();
  ShownProgress progress;
  std::atomic<bool> stop{false};
  FsckOptions options;
  options.level = level_named(level);
  options.threads = thread_count(threads);
  options.stop = &stop;
  options.progress = [&progress](std::uint64_t done, std::uint64_t all) { progress.set(done, all); };
  FsckReport report;
  run_interruptibly(
      stop,
      [&](const LastLook& last_look) {
        report = fsck(opened->reader, options);
        last_look();
      },
      progress.tick(callback));
  return report_of(report);
}

// Every block of some tensors. The same tuple.
nb::tuple verify_items(const Container& container, const std::vector<std::uint32_t>& numbers,
                       const nb::object& callback) {
  const auto opened = container.opened();
  std::vector<Item> items;
  ShownProgress progress;
  for (const std::uint32_t number : numbers) items.push_back(container.item(number));
  for (const Item& item : items) progress.all += item.stored_bytes();
  std::atomic<bool> stop{false};
  FsckReport report;
  const auto work = [&](const LastLook& last_look) {
    for (const Item& item : items) {
      if (stop) return;
      const auto verified = item.verify();
      if (!verified) report.problems.push_back({verified.error(), 0, 0});
      progress.done += item.stored_bytes();
      report.blocks_checked += item.block_count();
    }
    last_look();
  };
  run_interruptibly(stop, work, progress.tick(callback));
  report.item_count = items.size();
  report.problem_count = report.problems.size();
  report.valid = report.complete = report.problems.empty();
  return report_of(report);
}

}  // namespace

void add_verify(nb::class_<Container>& container) {
  container.def("verify", &verify, nb::arg("level"), nb::arg("progress").none(), nb::arg("threads"))
      .def("verify_items", &verify_items, nb::arg("numbers"), nb::arg("progress").none());
}

}  // namespace cdna::python
