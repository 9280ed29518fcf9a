// No bit of a file can be changed, no byte be lost or added, without being noticed when the format says.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>

#include "cdna/fsck.hpp"
#include "libcdna/format/wire.hpp"
#include "sample_file.hpp"

namespace {

using cdna::test::Part;
using cdna::test::Region;
using Bytes = std::vector<std::byte>;

constexpr std::size_t kFailuresShownMax = 20;

enum class Stage { none, open, touch, deep };

const char* name_of(Stage stage) {
  switch (stage) {
    case Stage::none:
      return "never";
    case Stage::open:
      return "at open";
    case Stage::touch:
      return "at first touch";
    case Stage::deep:
      return "in a deep check";
  }
  return "?";
}

// When and how a change is noticed.
struct Finding {
  Stage stage = Stage::none;
  std::string rule;
  std::uint64_t offset = cdna::kNoOffset;
  bool operator==(const Finding&) const = default;

  std::string describe() const {
    return std::string(name_of(stage)) + " by rule '" + rule + "' at byte " + std::to_string(offset);
  }
};

Finding found(Stage stage, const cdna::Error& error) { return {stage, error.rule, error.offset}; }

// What section 4 promises for a flip in byte `at`.
Finding promised(const Region& region, std::uint64_t at, std::uint64_t file_bytes) {
  switch (region.part) {
    case Part::head:
      return {Stage::open, "H1", at};
    case Part::footer:
      return {Stage::open, "F1", region.begin};
    // Without its magic the tail is taken for missing, because the head is there.
    case Part::tail:
      return at >= region.end - 8 ? Finding{Stage::open, "T2", file_bytes} : Finding{Stage::open, "T3", region.begin};
    case Part::index:
      return {Stage::touch, "X1", region.begin};
    case Part::block:
      return {Stage::touch, "B1", region.begin};
    case Part::gap:
      return {Stage::deep, "G1", at};
    case Part::record:
      return {Stage::deep, "R1", region.begin};
  }
  return {};
}

cdna::FsckReport deep_check(std::span<const std::byte> file) {
  cdna::FsckOptions options;
  options.level = cdna::FsckLevel::deep;
  return cdna::fsck(cdna::memory_source(file), options);
}

// Opens, reads, checks, as far as is needed to notice. What is not noticed in the item that owns the byte goes through
// the deep check of the whole file, and counts as found there only if that has nothing else to say.
Finding examine(std::span<const std::byte> file, const Region& region, bool mapped) {
  const auto reader = cdna::Reader::open(cdna::memory_source(file, mapped));
  if (!reader) return found(Stage::open, reader.error());
  if (region.part == Part::block || region.part == Part::index) {
    const auto content = cdna::test::read_item(*reader, region.item);
    if (!content) return found(Stage::touch, content.error());
  }
  const cdna::FsckReport report = deep_check(file);
  if (report.valid || report.problems.empty()) return {};
  const cdna::Error& error = report.problems[0].error;
  if (report.problem_count != 1) return {Stage::deep, std::string("first of several: ") + error.rule, error.offset};
  return found(Stage::deep, error);
}

// For sanitizers and slow machines: every n-th bit only.
std::uint64_t stride() {
  const char* const text = std::getenv("CDNA_TEST_STRIDE");
  const std::uint64_t value = text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
  return value == 0 ? 1 : value;
}

class Sweep {
 public:
  explicit Sweep(const Bytes& file) : file_(file), regions_(cdna::test::regions_of(file)) {}

  void run() {
    const unsigned threads = std::clamp(std::thread::hardware_concurrency(), 1U, 16U);
    std::vector<std::thread> workers;
    for (unsigned i = 0; i < threads; ++i) workers.emplace_back([this, i, threads] { sweep(i, threads); });
    for (std::thread& worker : workers) worker.join();
  }

  std::uint64_t count(Stage stage) const {
    const auto it = counts_.find(stage);
    return it == counts_.end() ? 0 : it->second;
  }
  std::uint64_t total() const {
    return count(Stage::none) + count(Stage::open) + count(Stage::touch) + count(Stage::deep);
  }
  const std::vector<std::string>& failures() const { return failures_; }

  void print(const char* name) const {
    const auto number = [this](Stage stage) { return static_cast<unsigned long long>(count(stage)); };
    std::printf("%s: %zu bytes, every %llu. bit flipped\n", name, file_.size(),
                static_cast<unsigned long long>(stride()));
    std::printf("  %llu noticed at open, %llu at first touch, %llu in a deep check, %llu undetected\n",
                number(Stage::open), number(Stage::touch), number(Stage::deep), number(Stage::none));
  }

 private:
  void sweep(unsigned first, unsigned threads) {
    Bytes file = file_;
    std::map<Stage, std::uint64_t> counts;
    std::size_t number = 0;
    std::uint64_t turn = 0;
    for (std::uint64_t bit = 0; bit < 8 * file.size(); bit += stride(), ++turn) {
      if (turn % threads != first) continue;
      const std::uint64_t at = bit / 8;
      while (regions_[number].end <= at) ++number;
      const Region& region = regions_[number];
      file[at] ^= std::byte{1} << (bit % 8);
      const Finding finding = examine(file, region, turn / threads % 2 == 0);
      file[at] ^= std::byte{1} << (bit % 8);
      ++counts[finding.stage];
      const Finding expected = promised(region, at, file.size());
      if (finding != expected) fail(bit, region, expected, finding);
    }
    const std::lock_guard lock(mutex_);
    for (const auto& [stage, n] : counts) counts_[stage] += n;
    if (file != file_) failures_.emplace_back("the test itself changed the file");
  }

  void fail(std::uint64_t bit, const Region& region, const Finding& expected, const Finding& finding) {
    const std::lock_guard lock(mutex_);
    if (failures_.size() >= kFailuresShownMax) return;
    failures_.push_back("bit " + std::to_string(bit % 8) + " of byte " + std::to_string(bit / 8) + " (" +
                        std::string(name_of(region.part)) + " at " + std::to_string(region.begin) + "): expected " +
                        expected.describe() + ", found " + finding.describe());
  }

  const Bytes& file_;
  const std::vector<Region> regions_;
  std::mutex mutex_;
  std::map<Stage, std::uint64_t> counts_;
  std::vector<std::string> failures_;
};

std::uint64_t bytes_of_part(const std::vector<Region>& regions, Part part) {
  std::uint64_t bytes = 0;
  for (const Region& region : regions) {
    if (region.part == part) bytes += region.end - region.begin;
  }
  return bytes;
}

void check_every_flip(const Bytes& file, const char* name) {
  Sweep sweep(file);
  sweep.run();
  sweep.print(name);
  for (const std::string& failure : sweep.failures()) FAIL_CHECK(failure);
  CHECK(sweep.count(Stage::none) == 0);
  CHECK(sweep.total() == (8 * file.size() + stride() - 1) / stride());
  if (stride() != 1) return;
  const auto regions = cdna::test::regions_of(file);
  const auto bits = [&regions](Part part) { return 8 * bytes_of_part(regions, part); };
  CHECK(sweep.count(Stage::open) == bits(Part::head) + bits(Part::footer) + bits(Part::tail));
  CHECK(sweep.count(Stage::touch) == bits(Part::index) + bits(Part::block));
  CHECK(sweep.count(Stage::deep) == bits(Part::gap) + bits(Part::record));
}

const Bytes& sample() {
  static const Bytes file = cdna::test::make_sample();
  return file;
}

const Bytes& small_sample() {
  static const Bytes file = cdna::test::make_small_sample();
  return file;
}

std::vector<Bytes> contents_of(std::span<const std::byte> file) {
  const auto reader = cdna::test::must(cdna::Reader::open(cdna::memory_source(file)));
  std::vector<Bytes> contents;
  for (std::uint32_t item = 0; item < reader.item_count(); ++item) {
    contents.push_back(cdna::test::must(cdna::test::read_item(reader, item)));
  }
  return contents;
}

// ---- Lengths ----

cdna::Error open_error(std::span<const std::byte> file) {
  auto reader = cdna::Reader::open(cdna::memory_source(file));
  if (reader) return {};
  return reader.error();
}

// Checked without Catch, whose assertions are too slow for one per byte.
class Mismatches {
 public:
  void expect(std::uint64_t number, const cdna::Error& error, cdna::Code code, std::string_view rule) {
    if (error.code == code && error.rule == rule) return;
    if (texts_.size() < kFailuresShownMax) {
      texts_.push_back(std::to_string(number) + " bytes: expected " + std::string(rule) + " (" +
                       std::string(cdna::name_of(code)) + "), found '" + error.rule + "' (" +
                       std::string(cdna::name_of(error.code)) + ")");
    }
  }
  void report() const {
    for (const std::string& text : texts_) FAIL_CHECK(text);
  }

 private:
  std::vector<std::string> texts_;
};

// The end of the last record that lies within the first `size` bytes, and how many there are.
struct Rest {
  std::uint64_t end = 64;
  std::uint32_t items = 0;
};

Rest intact_records(const std::vector<Region>& regions, std::uint64_t size) {
  Rest rest;
  for (const Region& region : regions) {
    if (region.part != Part::record) continue;
    if (region.end > size) break;
    rest = {region.end, rest.items + 1};
  }
  return rest;
}

// Rebuilds from the first `size` bytes and says what is wrong with the result, or "".
std::string check_rebuild(const Bytes& file, const std::vector<Region>& regions, std::uint64_t size) {
  Bytes out;
  const auto source = cdna::memory_source(std::span(file).first(size));
  const auto report = cdna::rebuild(*source, cdna::memory_sink(out));
  if (size < 64) {
    const bool refused = !report && report.error().code == cdna::Code::corrupt &&
                         std::string_view(report.error().rule) == "H1" && out.empty();
    return refused ? "" : "without a whole head nothing can be rebuilt, and this was not refused by H1";
  }
  if (!report) return "not rebuilt: " + report.error().describe();
  const Rest rest = intact_records(regions, size);
  const bool complete = size >= intact_records(regions, file.size()).end;
  if (report->complete != complete) return complete ? "is called a salvage" : "is called complete";
  if (report->item_count != rest.items || report->recovered_bytes != rest.end) {
    return std::to_string(report->item_count) + " items in " + std::to_string(report->recovered_bytes) +
           " bytes, not " + std::to_string(rest.items) + " in " + std::to_string(rest.end);
  }
  if (complete) return out == file ? "" : "differs from the original";
  if (!std::equal(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(rest.end), file.begin())) {
    return "does not begin as the original";
  }
  const cdna::FsckReport checked = deep_check(out);
  if (!checked.valid) return "does not pass a deep check: " + checked.problems.at(0).error.describe();
  if (checked.root != report->root) return "does not have the root that rebuild() reports";
  return "";
}

void check_every_cut(const Bytes& file, const std::vector<std::uint64_t>& sizes) {
  const auto regions = cdna::test::regions_of(file);
  std::size_t failures = 0;
  for (const std::uint64_t size : sizes) {
    const std::string fault = check_rebuild(file, regions, size);
    if (!fault.empty() && ++failures <= kFailuresShownMax) FAIL_CHECK("cut off after " << size << " bytes: " << fault);
  }
  CHECK(failures == 0);
}

}  // namespace

TEST_CASE("flip: the samples hold every part, encoding and codec that they are made for") {
  CHECK(sample().size() >= 56 << 10);
  CHECK(sample().size() <= 72 << 10);
  CHECK(small_sample().size() <= 8 << 10);
  CHECK(sample() == cdna::test::make_sample());
  for (const Bytes* const file : {&sample(), &small_sample()}) {
    const auto regions = cdna::test::regions_of(*file);
    CHECK(regions.front().begin == 0);
    CHECK(regions.back().end == file->size());
    for (const Part part : {Part::head, Part::block, Part::index, Part::record, Part::gap, Part::footer, Part::tail}) {
      INFO(cdna::test::name_of(part));
      CHECK(bytes_of_part(regions, part) > 0);
    }
    CHECK(deep_check(*file).valid);
  }
  const auto reader = cdna::test::must(cdna::Reader::open(cdna::memory_source(sample())));
  std::map<std::string, int> seen;
  std::uint32_t blocks_max = 0;
  for (std::uint32_t i = 0; i < reader.item_count(); ++i) {
    const cdna::Item item = reader.item(i);
    ++seen["kind " + std::to_string(static_cast<int>(item.kind()))];
    ++seen[std::string(item.type())];
    ++seen["rank " + std::to_string(item.shape().size())];
    if (item.kind() == cdna::ItemKind::tensor && item.element_count() == 0) ++seen["no elements"];
    if (cdna::bits_of(item.dtype()) % 8 != 0) ++seen["sub-byte"];
    for (std::uint32_t p = 0; p < item.plane_count(); ++p) {
      ++seen["filters " + std::to_string(cdna::test::must(item.filters(p)))];
      const cdna::PlaneInfo plane = item.plane(p);
      ++seen["layout " + std::to_string(plane.layout) + " codecs " + std::to_string(plane.codecs)];
      blocks_max = std::max(blocks_max, plane.block_count);
    }
  }
  CAPTURE(seen);
  for (const char* const wanted : {"kind 0", "kind 1", "kind 2", "kind 3", "cdna.exact", "cdna.codebook", "rank 0",
                                   "rank 2", "no elements", "sub-byte", "layout 0 codecs 1", "layout 1 codecs 1",
                                   "layout 1 codecs 2", "layout 1 codecs 4", "filters 2", "layout 1 codecs 3"}) {
    INFO(wanted);
    CHECK(seen[wanted] > 0);
  }
  CHECK(blocks_max >= 2);
}

TEST_CASE("flip: every flipped bit of the sample is noticed where section 4 says, 0 undetected") {
  check_every_flip(sample(), "sample");
}

TEST_CASE("flip: every flipped bit of the small sample is noticed where section 4 says, 0 undetected") {
  check_every_flip(small_sample(), "small sample");
}

TEST_CASE("flip: a changed gap or record changes nothing that a reader hands out") {
  const std::vector<Bytes> contents = contents_of(small_sample());
  Bytes file = small_sample();
  for (const Region& region : cdna::test::regions_of(small_sample())) {
    if (region.part != Part::gap && region.part != Part::record) continue;
    for (std::uint64_t at = region.begin; at < region.end; at += stride()) {
      file[at] ^= std::byte{0xFF};
      if (contents_of(file) != contents) {
        FAIL_CHECK("byte " << at << " of a " << cdna::test::name_of(region.part) << " changes an item");
      }
      file[at] ^= std::byte{0xFF};
    }
  }
}

TEST_CASE("flip: every truncation is refused at open, T1 without a head and T2 with one") {
  Mismatches mismatches;
  for (std::uint64_t size = 0; size < sample().size(); ++size) {
    const cdna::Error error = open_error(std::span(sample()).first(size));
    if (size < 8)
      mismatches.expect(size, error, cdna::Code::not_cdna, "T1");
    else
      mismatches.expect(size, error, cdna::Code::truncated, "T2");
  }
  mismatches.report();
}

TEST_CASE("flip: bytes after the tail are T2, before the head or before the tail T11, on both sides T1") {
  Mismatches mismatches;
  const auto tail_at = static_cast<std::ptrdiff_t>(sample().size() - cdna::kTailBytes);
  for (const std::byte filling : {std::byte{0}, std::byte{0xCD}}) {
    for (std::size_t count = 1; count <= 4096; ++count) {
      const Bytes more(count, filling);
      Bytes after = sample();
      after.insert(after.end(), more.begin(), more.end());
      mismatches.expect(count, open_error(after), cdna::Code::truncated, "T2");
      Bytes within = sample();
      within.insert(within.begin() + tail_at, more.begin(), more.end());
      mismatches.expect(count, open_error(within), cdna::Code::truncated, "T11");
      Bytes before = more;
      before.insert(before.end(), sample().begin(), sample().end());
      mismatches.expect(count, open_error(before), cdna::Code::truncated, "T11");
      before.insert(before.end(), more.begin(), more.end());
      mismatches.expect(count, open_error(before), cdna::Code::not_cdna, "T1");
    }
  }
  mismatches.report();
}

TEST_CASE("flip: a file that has lost bytes before its tail is T11") {
  Mismatches mismatches;
  const std::size_t tail_at = sample().size() - cdna::kTailBytes;
  for (std::size_t size = 448 - cdna::kTailBytes; size < tail_at; ++size) {
    Bytes file(sample().begin(), sample().begin() + static_cast<std::ptrdiff_t>(size));
    file.insert(file.end(), sample().begin() + static_cast<std::ptrdiff_t>(tail_at), sample().end());
    mismatches.expect(size, open_error(file), cdna::Code::truncated, "T11");
  }
  mismatches.report();
}

TEST_CASE("flip: cut off anywhere after the last record, the sample is rebuilt byte for byte") {
  std::vector<std::uint64_t> sizes;
  const auto regions = cdna::test::regions_of(sample());
  for (std::uint64_t size = intact_records(regions, sample().size()).end; size <= sample().size(); ++size) {
    if (size % 64 == 0 || stride() == 1) sizes.push_back(size);
  }
  check_every_cut(sample(), sizes);
}

TEST_CASE("flip: cut off anywhere, what is rebuilt passes a deep check") {
  std::vector<std::uint64_t> every;
  for (std::uint64_t size = 0; size < small_sample().size(); size += stride()) every.push_back(size);
  check_every_cut(small_sample(), every);
  std::vector<std::uint64_t> edges;
  const auto regions = cdna::test::regions_of(sample());
  for (const Region& region : regions) {
    for (const std::uint64_t size : {region.begin, region.begin + 1, region.end - 1}) edges.push_back(size);
  }
  for (std::uint64_t size = 0; size < sample().size(); size += 64 * stride()) edges.push_back(size);
  check_every_cut(sample(), edges);
}
