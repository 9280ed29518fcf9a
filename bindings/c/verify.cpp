// Checking a whole file or a tensor, with progress, problems and cancellation.
#include <atomic>

#include "bindings/c/arguments.hpp"
#include "bindings/c/reader.hpp"
#include "bindings/c/workers.hpp"
#include "cdna/fsck.hpp"

namespace cdna::c {
namespace {

Result<FsckLevel> level_of(std::uint32_t level) {
  switch (level) {
    case CDNA_VERIFY_QUICK:
      return FsckLevel::quick;
    case CDNA_VERIFY_STANDARD:
      return FsckLevel::standard;
    case CDNA_VERIFY_DEEP:
      return FsckLevel::deep;
    default:
      return bad_argument("options->level is " + std::to_string(level));
  }
}

Result<cdna_verify_options> options_of(const cdna_verify_options* options) {
  cdna_verify_options given = CDNA_TRY(take_options(options, "options"));
  CDNA_TRY(need_zero(given.reserved, "options->reserved"));
  given.threads = CDNA_TRY(take_threads(given.threads, "options->threads"));
  return given;
}

Error cancelled(const cdna_reader& reader) {
  Error error = fail(Code::cancelled, "", "stopped on request");
  error.file = reader.name;
  return error;
}

// The first problem; without memory there may be none in the report.
Error first_problem(const FsckReport& report) {
  return report.problems.empty() ? fail(Code::no_memory, "", "out of memory") : report.problems.front().error;
}

// What kept the check from being done, which comes last.
Error failure_of(const FsckReport& report) {
  if (report.problems.empty()) return fail(Code::no_memory, "", "out of memory");
  return report.problems.back().error;
}

// False where the callback wants no more.
bool tell_problems(const FsckReport& report, const cdna_verify_options& options) {
  if (options.problem == nullptr) return true;
  for (const FsckProblem& problem : report.problems) {
    cdna_error error{};
    tell(problem.error, &error);
    if (options.problem(options.problem_context, &error, problem.begin, problem.end) != 0) return false;
  }
  return true;
}

cdna_verify_report report_of(const FsckReport& given) {
  cdna_verify_report report{};
  report.item_count = given.item_count;
  report.unsupported_count = given.unsupported_count;
  report.blocks_checked = given.blocks_checked;
  report.problem_count = given.problem_count;
  return report;
}

Result<FsckReport> check(const cdna_reader& reader, const cdna_verify_options& options) {
  std::atomic<bool> stop{false};
  FsckOptions checking;
  checking.level = CDNA_TRY(level_of(options.level));
  checking.expected_root = reader.reader.root();
  checking.limits = reader.limits;
  checking.threads = options.threads;
  checking.stop = &stop;
  if (options.progress != nullptr) {
    checking.progress = [&](std::uint64_t done, std::uint64_t total) {
      if (!stop && options.progress(options.progress_context, done, total) != 0) stop = true;
    };
  }
  FsckReport report = fsck(reader.reader, checking);
  if (stop) return cancelled(reader);
  if (report.operational_failure) return failure_of(report);
  return report;
}

Result<void> verify(const cdna_reader* reader, const cdna_verify_options* options, cdna_verify_report* ret_report) {
  CDNA_TRY(need(reader, "reader"));
  const cdna_verify_options taken = CDNA_TRY(options_of(options));
  if (ret_report != nullptr) CDNA_TRY(struct_size(ret_report, "ret_report"));
  const FsckReport report = CDNA_TRY(check(*reader, taken));
  if (!tell_problems(report, taken)) return cancelled(*reader);
  if (ret_report != nullptr) CDNA_TRY(give_struct(report_of(report), ret_report, "ret_report"));
  if (!report.valid) return first_problem(report);
  return {};
}

Result<void> verify_tensor(const cdna_reader* reader, std::uint64_t tensor) {
  return CDNA_TRY(tensor_of(reader, tensor)).verify();
}

}  // namespace
}  // namespace cdna::c

extern "C" {

cdna_code cdna_verify(const cdna_reader* reader, const cdna_verify_options* options, cdna_verify_report* ret_report,
                      cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::verify(reader, options, ret_report); });
}

cdna_code cdna_tensor_verify(const cdna_reader* reader, uint64_t tensor, cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::verify_tensor(reader, tensor); });
}

}  // extern "C"
