// Runs of pages as a step function of the place in the file.
#include "libcdna/pinned_pages.hpp"

#include <algorithm>
#include <iterator>
#include <string>

#include "libcdna/try.hpp"

namespace cdna {
namespace {

// Of a run, what lies within the file.
std::uint64_t size_within(const Source& source, std::uint64_t begin, std::uint64_t end) {
  return std::min(end, source.size_bytes()) - begin;
}

}  // namespace

Result<void> PinnedPages::check(std::span<const PageRun> runs) const {
  const std::lock_guard lock(mutex_);
  return check_locked(runs);
}

Result<void> PinnedPages::check_locked(std::span<const PageRun> runs) const {
  std::uint64_t missing = 0;
  for (const PageRun& run : runs) missing += missing_bytes(run);
  CDNA_CHECK(missing <= bytes_max_ - locked_bytes_, Code::limit, "",
             "pinning needs " + std::to_string(missing) + " bytes of pages besides the " +
                 std::to_string(locked_bytes_) + " that are pinned, over the caller's limit of " +
                 std::to_string(bytes_max_));
  return {};
}

std::uint64_t PinnedPages::missing_bytes(const PageRun& run) const {
  std::uint64_t missing = run.end - run.begin;
  auto at = boundaries_.upper_bound(run.begin);
  if (at != boundaries_.begin()) --at;
  for (auto next = at; at != boundaries_.end() && at->first < run.end; at = next) {
    next = std::next(at);
    if (at->second.holders == 0) continue;  // Behind the last run, and between runs.
    missing -= std::min(next->first, run.end) - std::max(at->first, run.begin);
  }
  return missing;
}

Result<void> PinnedPages::hold(const Source& source, std::span<const PageRun> runs) {
  const std::lock_guard lock(mutex_);
  CDNA_TRY(check_locked(runs));
  for (std::size_t i = 0; i < runs.size(); ++i) {
    Result<void> held;
    try {
      held = hold_run(source, runs[i]);
    } catch (...) {
      for (const PageRun& run : runs.first(i)) let_go_run(source, run);
      throw;
    }
    if (held) continue;
    for (const PageRun& run : runs.first(i)) let_go_run(source, run);
    return held;
  }
  return {};
}

void PinnedPages::let_go(const Source& source, std::span<const PageRun> runs) noexcept {
  const std::lock_guard lock(mutex_);
  for (const PageRun& run : runs) let_go_run(source, run);
}

PinnedPages::Boundaries::iterator PinnedPages::add_boundary(std::uint64_t at) {
  const auto next = boundaries_.lower_bound(at);
  if (next != boundaries_.end() && next->first == at) {
    ++next->second.runs;
    return next;
  }
  const std::uint32_t holders = next == boundaries_.begin() ? 0 : std::prev(next)->second.holders;
  return boundaries_.emplace_hint(next, at, Boundary{holders, 1});
}

void PinnedPages::remove_boundary(Boundaries::iterator at) noexcept {
  if (--at->second.runs == 0) boundaries_.erase(at);
}

Result<void> PinnedPages::hold_run(const Source& source, const PageRun& run) {
  const auto first = add_boundary(run.begin);
  auto last = boundaries_.end();
  try {
    last = add_boundary(run.end);
  } catch (...) {
    remove_boundary(first);
    throw;
  }
  for (auto at = first; at != last; ++at) {
    const std::uint64_t end = std::next(at)->first;
    if (at->second.holders == 0) {
      if (auto locked = source.lock(at->first, size_within(source, at->first, end)); !locked) {
        let_go_until(source, first, at);
        remove_boundary(first);
        remove_boundary(last);
        return locked;
      }
      locked_bytes_ += end - at->first;
    }
    ++at->second.holders;
  }
  return {};
}

void PinnedPages::let_go_run(const Source& source, const PageRun& run) noexcept {
  const auto first = boundaries_.find(run.begin);
  const auto last = boundaries_.find(run.end);
  let_go_until(source, first, last);
  remove_boundary(first);
  remove_boundary(last);
}

void PinnedPages::let_go_until(const Source& source, Boundaries::iterator first, Boundaries::iterator last) noexcept {
  for (auto at = first; at != last; ++at) {
    if (--at->second.holders != 0) continue;
    const std::uint64_t end = std::next(at)->first;
    source.unlock(at->first, size_within(source, at->first, end));
    locked_bytes_ -= end - at->first;
  }
}

}  // namespace cdna
