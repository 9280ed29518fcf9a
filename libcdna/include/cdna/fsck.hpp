// Checking files completely, and rebuilding lost footers.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cdna/digest.hpp"
#include "cdna/error.hpp"
#include "cdna/limits.hpp"
#include "cdna/reader.hpp"
#include "cdna/sink.hpp"
#include "cdna/source.hpp"

namespace cdna {

enum class FsckLevel : std::uint8_t {
  quick,     // Head, tail, footer, and the index of every item.
  standard,  // And every block's digest.
  deep,      // And decode every block; gaps, records and padding; finite scales; source digests of exact items.
};

struct FsckOptions {
  FsckLevel level = FsckLevel::standard;
  std::optional<Digest> expected_root;
  Limits limits;
  unsigned threads = 1;  // 0: one per core.
  const std::atomic<bool>* stop = nullptr;
  // Called from the calling thread now and then with bytes done and bytes to do.
  std::function<void(std::uint64_t, std::uint64_t)> progress;
};

// Something wrong, with the file's bytes that it concerns.
struct FsckProblem {
  Error error;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

struct FsckReport {
  // The file has its whole length, head, tail and footer, and its packets follow one another to the footer. (With
  // another root than the expected one only the tail is looked at.)
  bool complete = false;
  // Everything that the level checks is right.
  bool valid = false;
  // The check itself could not be done (I/O error, no memory, stopped): neither of the above says anything then.
  bool operational_failure = false;
  std::optional<Digest> root;
  std::uint64_t item_count = 0;
  std::uint64_t unsupported_count = 0;  // Items that this version cannot decode; verified all the same.
  std::uint64_t blocks_checked = 0;
  std::uint64_t problem_count = 0;
  // The first 1000 found, in the order of spec/format.md 16.2, adjacent bad blocks of a plane joined. Without memory
  // even for "no memory" they are fewer than problem_count.
  std::vector<FsckProblem> problems;
};

// Never writes. Errors are in the report, lack of memory too.
FsckReport fsck(std::unique_ptr<Source> source, const FsckOptions& options = {});

// The same check of the source of an open reader, which stays open; also of sources that cannot be opened twice.
// Nothing that the reader has read or verified is relied on: everything is read anew, with Source::read_at. The
// reader's own state and statistics do not change. Requires: `reader` lives during the call. Threads: the reader may be
// used meanwhile.
FsckReport fsck(const Reader& reader, const FsckOptions& options = {});

struct RebuildReport {
  bool complete = false;  // The metadata item was found: no item is missing. Otherwise a salvage.
  std::uint32_t item_count = 0;
  std::uint64_t recovered_bytes = 0;  // Of the damaged file, from its beginning.
  Digest root{};
};

// Writes to `sink` the file that the head and the records of `source` describe (spec/format.md, section 18), and
// commits it. A file that lost only footer and tail comes back byte for byte. Blocks are copied unchecked: run fsck on
// the result. Errors: io, exists; corrupt (the head is damaged); malformed, limit, unsupported (what the records
// describe breaks a rule, or needs a feature that this library does not know); cancelled.
Result<RebuildReport> rebuild(const Source& source, std::unique_ptr<Sink> sink,
                              const std::atomic<bool>* stop = nullptr);

}  // namespace cdna
