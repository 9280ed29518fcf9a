// Which pages of a mapped file are locked in memory, and by how many pins: mlock itself does not count.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <span>

#include "cdna/error.hpp"
#include "cdna/source.hpp"

namespace cdna {

// Bytes [begin, end) of a file; whole pages, of which the last may go beyond the file's end.
struct PageRun {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

// Threads: any; one locks or unlocks at a time.
class PinnedPages {
 public:
  explicit PinnedPages(std::uint64_t bytes_max = 0) : bytes_max_(bytes_max) {}

  // Whether the pages could be held within bytes_max. Requires: the runs ascend and do not touch. Errors: limit.
  Result<void> check(std::span<const PageRun> runs) const;

  // Locks the pages that nobody holds yet, and counts all of them as held once more. Errors: limit; those of
  // Source::lock, after which nothing has changed. Throws std::bad_alloc, likewise.
  Result<void> hold(const Source& source, std::span<const PageRun> runs);

  // Undoes one hold() of the same runs.
  void let_go(const Source& source, std::span<const PageRun> runs) noexcept;

 private:
  // From its key to the next one's, `holders` pins hold each page. It stays while a run begins or ends there, so that
  // letting go needs no memory.
  struct Boundary {
    std::uint32_t holders = 0;
    std::uint32_t runs = 0;
  };
  using Boundaries = std::map<std::uint64_t, Boundary>;

  Result<void> check_locked(std::span<const PageRun> runs) const;
  std::uint64_t missing_bytes(const PageRun& run) const;
  Boundaries::iterator add_boundary(std::uint64_t at);
  void remove_boundary(Boundaries::iterator at) noexcept;
  Result<void> hold_run(const Source& source, const PageRun& run);
  void let_go_run(const Source& source, const PageRun& run) noexcept;
  void let_go_until(const Source& source, Boundaries::iterator first, Boundaries::iterator last) noexcept;

  const std::uint64_t bytes_max_;
  mutable std::mutex mutex_;
  Boundaries boundaries_;
  std::uint64_t locked_bytes_ = 0;
};

}  // namespace cdna
