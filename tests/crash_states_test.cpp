// Tests of the writer against power loss: in every state that a disk may be in afterwards, the old file or the new one
// stands under the name, whole; once the writer has said that it succeeded, the new one.
#include <fcntl.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <cstdio>
#include <optional>
#include <set>
#include <string>
#include <unordered_set>
#include <vector>

#include "case_stride.hpp"
#include "cdna/writer.hpp"
#include "power_loss.hpp"
#include "recording_file_system.hpp"
#include "sample_file.hpp"

using namespace cdna;
using namespace cdna::test;

namespace {

using Bytes = std::vector<std::byte>;

constexpr std::uint64_t kSeed = 20240614;
constexpr std::size_t kChoicesMax = 13;  // All states of so many choices, a sample of more.
// At each point; a tenth of it where all are enumerated, for pages as they were between two writes.
constexpr std::uint64_t kSampledStates = 2000;
constexpr mode_t kOldMode = 0640;  // A new file has 0644.
const std::string kName = "model.cdna";
const std::string kPrefix = ".model.cdna.cdna-tmp-";
const std::string kLeftOver = kPrefix + "0123456789abcdef";

// One way in which a file is written.
struct Variant {
  bool replacing = false;
  bool has_tmpfile = true;
  bool has_hard_links = true;
  bool left_over = false;  // A dead writer's temporary file.

  std::string describe() const {
    return std::string(replacing ? "replacing" : "new name") + (has_tmpfile ? ", O_TMPFILE" : ", named temporary") +
           (has_hard_links ? "" : ", no hard links") + (left_over ? ", left-over" : "");
  }
};

// Where cases are passed over, two that differ in everything.
std::vector<Variant> all_variants() {
  if (CaseStride().passes_over()) return {{false, true, true, false}, {true, false, false, true}};
  std::vector<Variant> variants;
  for (const bool replacing : {false, true}) {
    for (const bool left_over : {false, true}) {
      variants.push_back({replacing, true, true, left_over});
      variants.push_back({replacing, false, true, left_over});
      variants.push_back({replacing, false, false, left_over});
    }
  }
  return variants;
}

std::string text_of(const Bytes& bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

Bytes old_bytes() { return Random(kSeed + 1).bytes(5000); }

RecordingFileSystem make_disk(const Variant& variant) {
  Disk disk;
  if (variant.replacing) disk.put(kName, old_bytes(), kOldMode);
  if (variant.left_over) disk.put(kLeftOver, Random(kSeed + 2).bytes(100), 0600);
  RecordingFileSystem file_system(disk);
  file_system.has_tmpfile = variant.has_tmpfile;
  file_system.has_hard_links = variant.has_hard_links;
  return file_system;
}

// A model of both encodings and an asset through the library's writer. 64-byte alignment: bytes of several items share
// a page, which is written in several calls.
Result<Digest> write_model(RecordingFileSystem& file_system, bool force, std::uint64_t rows) {
  constexpr std::uint64_t kCols = 128;
  Random random(kSeed + rows);
  const Bytes exact = random.bytes(rows * kCols * 2);
  const Bytes matrix = bf16_of(random.weights(rows * kCols));
  auto sink = create_file(std::string(RecordingFileSystem::kFolder) + "/" + kName, {force, &file_system});
  if (!sink) return sink.error();
  auto writer = Writer::create(*std::move(sink), {64, 1, nullptr});
  if (!writer) return writer.error();
  auto added = writer->add_exact({"exact", DType::bf16, {rows, kCols}, Role::other, Codec::raw}, reader_of(exact));
  if (added) {
    added =
        writer->add_codebook({"matrix", DType::bf16, {rows, kCols}, Role::matrix, Codec::raw}, {}, reader_of(matrix));
  }
  if (added) added = writer->add_asset("asset", "text/plain", 1000, Codec::raw, reader_of(exact));
  if (!added) return added.error();
  return writer->finish();
}

constexpr std::uint64_t kSmallRows = 92;   // 10 pages.
constexpr std::uint64_t kLargeRows = 400;  // 40 pages.

Bytes model_bytes(std::uint64_t rows) {
  RecordingFileSystem file_system = make_disk({});
  must(write_model(file_system, false, rows));
  return file_system.disk().find(kName)->bytes;
}

bool is_temporary(const std::string& name) {
  return name.size() == kLeftOver.size() && name.compare(0, kPrefix.size(), kPrefix) == 0 &&
         name.find_first_not_of("0123456789abcdef", kPrefix.size()) == std::string::npos;
}

// What was found in all states of a run.
struct Verdict {
  std::uint64_t points = 0;    // At which the power went.
  std::uint64_t states = 0;    // That were looked at.
  std::uint64_t distinct = 0;  // Of these.
  std::uint64_t choices_max = 0;
  std::uint64_t next_writers = 0;
  std::uint64_t nothing = 0, old_file = 0, new_file = 0, rival_file = 0;
  std::uint64_t torn = 0;   // Something else stands under the name, or a wrong mode.
  std::uint64_t lost = 0;   // Not the new file, after success.
  std::uint64_t stray = 0;  // Names that should not be there.
  std::uint64_t not_cleaned = 0;
  std::string first_fault;

  bool is_clean() const { return torn + lost + stray + not_cleaned == 0; }
};

// Looks at all states of one run.
class Examination {
 public:
  Examination(const Variant& variant, const RecordingFileSystem& file_system, bool succeeded, Bytes new_bytes)
      : variant_(variant), file_system_(file_system), succeeded_(succeeded), new_bytes_(std::move(new_bytes)) {}

  std::optional<Bytes> rival_bytes;

  Verdict run() {
    Random random(kSeed);
    const auto& changes = file_system_.changes();
    for (std::size_t count = 0; count <= changes.size(); ++count) {
      at_ = count;
      const PowerLoss loss(file_system_.durable(), std::span(changes).first(count));
      const std::size_t choices = loss.choice_count();
      const auto look = [this](const PowerLoss::State& state) { check(state); };
      if (choices <= kChoicesMax) loss.for_each(look);
      if (choices > 0) loss.sample(random, choices <= kChoicesMax ? kSampledStates / 10 : kSampledStates, look);
      verdict_.choices_max = std::max<std::uint64_t>(verdict_.choices_max, choices);
      ++verdict_.points;
    }
    verdict_.distinct = seen_.size();
    return verdict_;
  }

 private:
  void fault(std::uint64_t& count, const std::string& what) {
    if (verdict_.first_fault.empty()) verdict_.first_fault = what + ", after " + std::to_string(at_) + " changes";
    ++count;
  }

  void check(const PowerLoss::State& state) {
    ++verdict_.states;
    const bool must_be_new = succeeded_ && at_ == file_system_.changes().size();
    // Each is judged once, and once more when the writer has said that it succeeded.
    if (!(must_be_new ? seen_after_success_ : seen_).insert(state.hash()).second) return;
    check_destination(state, must_be_new);
    check_names(state);
    if (disks_.insert(state.names()).second) check_next_writer(state);
  }

  void check_destination(const PowerLoss::State& state, bool must_be_new) {
    const auto found = state.names().find(kName);
    if (found == state.names().end()) {
      ++verdict_.nothing;
      if (variant_.replacing) fault(verdict_.torn, "the old file is gone");
      if (must_be_new) fault(verdict_.lost, "nothing stands there after success");
      return;
    }
    const Bytes bytes = state.bytes(found->second);
    const bool is_new = bytes == new_bytes_;
    const mode_t mode = state.mode(found->second);
    if (is_new) {
      ++verdict_.new_file;
      if (variant_.replacing && mode != kOldMode) fault(verdict_.torn, "the mode of the old file is lost");
    } else if (variant_.replacing && bytes == old_bytes_) {
      ++verdict_.old_file;
      if (mode != kOldMode) fault(verdict_.torn, "the old file has another mode");
    } else if (rival_bytes && bytes == *rival_bytes) {
      ++verdict_.rival_file;
    } else {
      fault(verdict_.torn, "a torn file of " + std::to_string(bytes.size()) + " bytes stands there");
    }
    if (must_be_new && !is_new) fault(verdict_.lost, "the new file is not there after success");
  }

  void check_names(const PowerLoss::State& state) {
    std::uint64_t temporaries = 0;
    for (const auto& [name, file] : state.names()) {
      if (name == kName || (variant_.left_over && name == kLeftOver)) continue;
      if (!is_temporary(name)) fault(verdict_.stray, "an unknown name: " + name);
      if (variant_.replacing && (state.mode(file) & ~kOldMode) != 0)
        fault(verdict_.stray, "a temporary file is open to more users than the old file");
      ++temporaries;
    }
    const bool may_be_there = variant_.replacing || !variant_.has_tmpfile || rival_bytes.has_value();
    if (temporaries > (may_be_there ? 1U : 0U)) fault(verdict_.stray, "too many temporary files");
  }

  void check_next_writer(const PowerLoss::State& state) {
    ++verdict_.next_writers;
    RecordingFileSystem next(state.disk());
    next.has_tmpfile = variant_.has_tmpfile;
    next.has_hard_links = variant_.has_hard_links;
    const auto result = write_model(next, state.names().count(kName) > 0, kSmallRows + 1);
    const bool one_name = next.disk().names.size() == 1 && next.disk().find(kName) != nullptr;
    if (!result || !one_name || next.open_count() != 0)
      fault(verdict_.not_cleaned, "the next writer does not clean up");
  }

  const Variant variant_;
  const RecordingFileSystem& file_system_;
  const bool succeeded_;
  const Bytes new_bytes_;
  const Bytes old_bytes_ = old_bytes();
  std::size_t at_ = 0;
  std::unordered_set<std::uint64_t> seen_;  // Hashes of states.
  std::unordered_set<std::uint64_t> seen_after_success_;
  std::set<std::map<std::string, std::size_t>> disks_;
  Verdict verdict_;
};

void print(const std::string& title, const Verdict& verdict) {
  std::printf(
      "%s: %llu points, up to %llu choices, %llu states, %llu distinct: %llu nothing, %llu old, %llu new; "
      "%llu torn, %llu lost, %llu stray; %llu next writers\n",
      title.c_str(), static_cast<unsigned long long>(verdict.points),
      static_cast<unsigned long long>(verdict.choices_max), static_cast<unsigned long long>(verdict.states),
      static_cast<unsigned long long>(verdict.distinct), static_cast<unsigned long long>(verdict.nothing),
      static_cast<unsigned long long>(verdict.old_file), static_cast<unsigned long long>(verdict.new_file),
      static_cast<unsigned long long>(verdict.torn), static_cast<unsigned long long>(verdict.lost),
      static_cast<unsigned long long>(verdict.stray), static_cast<unsigned long long>(verdict.next_writers));
}

Verdict examine_write(const Variant& variant, std::uint64_t rows) {
  RecordingFileSystem file_system = make_disk(variant);
  const auto result = write_model(file_system, variant.replacing, rows);
  INFO(variant.describe() << (result ? "" : ": " + result.error().describe()));
  REQUIRE(result);
  REQUIRE(file_system.open_count() == 0);
  REQUIRE(file_system.disk().names.size() == 1);
  const Bytes written = file_system.disk().find(kName)->bytes;
  REQUIRE(written == model_bytes(rows));
  return Examination(variant, file_system, true, written).run();
}

}  // namespace

TEST_CASE("crash_states: the model of a power loss has the states that a count by hand gives") {
  // Two whole pages and a part of a third, never synced, under a name that was not synced either.
  Disk empty;
  RecordingFileSystem file_system(empty);
  const int folder = file_system.openat(AT_FDCWD, RecordingFileSystem::kFolder, O_RDONLY | O_DIRECTORY, 0);
  const int fd = file_system.openat(folder, "x", O_RDWR | O_CREAT | O_EXCL, 0600);
  const Bytes bytes = Random(kSeed).bytes(2 * PowerLoss::kPageBytes + 1);
  REQUIRE(file_system.write(fd, bytes.data(), bytes.size()) == static_cast<std::int64_t>(bytes.size()));
  std::set<std::string> contents;
  std::uint64_t without_name = 0;
  const auto look = [&](const PowerLoss::State& state) {
    if (state.names().empty())
      ++without_name;
    else
      contents.insert(text_of(state.bytes(state.names().at("x"))));
  };
  PowerLoss(file_system.durable(), file_system.changes()).for_each(look);
  CHECK(without_name == 1);
  CHECK(contents.size() == 1 + 2 + 4 + 8);  // 0, 1, 2 pages and all bytes; each page zeros or not.
  CHECK(contents.count(text_of(bytes)) == 1);
  CHECK(contents.count(std::string(bytes.size(), '\0')) == 1);
  CHECK(contents.count("") == 1);

  // Synced, the bytes are certain and the name is not; then both.
  contents.clear();
  without_name = 0;
  REQUIRE(file_system.fsync(fd) == 0);
  PowerLoss(file_system.durable(), file_system.changes()).for_each(look);
  CHECK(without_name == 1);
  CHECK(contents == std::set<std::string>{text_of(bytes)});
  REQUIRE(file_system.fsync(folder) == 0);
  PowerLoss(file_system.durable(), file_system.changes()).for_each(look);
  CHECK(without_name == 1);

  // A link, an unlink and a rename, each of them there or not: eight ways, of which some look the same.
  REQUIRE(file_system.linkat(folder, "x", folder, "y", 0) == 0);
  REQUIRE(file_system.unlinkat(folder, "x") == 0);
  REQUIRE(file_system.renameat(folder, "y", "z") == 0);
  std::set<std::set<std::string>> names;
  PowerLoss(file_system.durable(), file_system.changes()).for_each([&](const PowerLoss::State& state) {
    std::set<std::string> found;
    for (const auto& [name, file] : state.names()) found.insert(name);
    names.insert(found);
  });
  CHECK(names == std::set<std::set<std::string>>{{"x"}, {"x", "y"}, {"x", "z"}, {}, {"y"}, {"z"}});
}

TEST_CASE("crash_states: after a power loss the old file or the new one stands there; after success, the new one") {
  std::uint64_t states = 0;
  std::uint64_t distinct = 0;
  std::printf("seed %llu\n", static_cast<unsigned long long>(kSeed));
  for (const Variant& variant : all_variants()) {
    const Verdict verdict = examine_write(variant, kSmallRows);
    print(variant.describe(), verdict);
    INFO(variant.describe() << ": " << verdict.first_fault);
    CHECK(verdict.is_clean());
    CHECK(verdict.choices_max <= kChoicesMax);  // All states were enumerated.
    CHECK(verdict.new_file > 0);
    CHECK((variant.replacing ? verdict.old_file : verdict.nothing) > 0);
    CHECK(verdict.next_writers > 1);
    states += verdict.states;
    distinct += verdict.distinct;
  }
  std::printf("%llu states, %llu distinct\n", static_cast<unsigned long long>(states),
              static_cast<unsigned long long>(distinct));
  CHECK(distinct >= (CaseStride().passes_over() ? 10'000 : 100'000));
}

TEST_CASE("crash_states: so it is with a file of many pages, of whose states a sample is looked at") {
  for (const Variant& variant : all_variants()) {
    const Verdict verdict = examine_write(variant, kLargeRows);
    print(variant.describe(), verdict);
    INFO(variant.describe() << ": " << verdict.first_fault);
    CHECK(verdict.is_clean());
    if (!variant.has_tmpfile) CHECK(verdict.choices_max > 3 * kChoicesMax);
    CHECK(verdict.new_file > 0);
  }
}

TEST_CASE("crash_states: a rival that commits meanwhile leaves its own file, the new one or nothing") {
  for (const bool has_tmpfile : {true, false}) {
    Variant variant;
    variant.has_tmpfile = has_tmpfile;
    RecordingFileSystem file_system = make_disk(variant);
    bool rival_came = false;
    file_system.before_naming = [&] {
      rival_came = true;
      REQUIRE(write_model(file_system, true, kSmallRows + 2));
    };
    REQUIRE(write_model(file_system, true, kSmallRows));
    REQUIRE(rival_came);
    REQUIRE(file_system.disk().names.size() == 1);
    Examination examination(variant, file_system, true, model_bytes(kSmallRows));
    examination.rival_bytes = model_bytes(kSmallRows + 2);
    const Verdict verdict = examination.run();
    print(variant.describe() + ", rival", verdict);
    INFO(variant.describe() << ": " << verdict.first_fault);
    CHECK(verdict.torn == 0);
    CHECK(verdict.lost == 0);
    CHECK(verdict.not_cleaned == 0);
    CHECK(verdict.rival_file > 0);
    CHECK(verdict.new_file > 0);
  }
}

TEST_CASE("crash_states: where O_TMPFILE works and links do not, writing fails and leaves all as it was") {
  for (const bool replacing : {false, true}) {
    const Variant variant{replacing, true, false, false};
    RecordingFileSystem file_system = make_disk(variant);
    const auto result = write_model(file_system, replacing, kSmallRows);
    REQUIRE_FALSE(result);
    CHECK(result.error().os_errno == EPERM);
    CHECK(file_system.disk().names == file_system.durable().names);
    const Verdict verdict = Examination(variant, file_system, false, model_bytes(kSmallRows)).run();
    CHECK(verdict.torn + verdict.lost + verdict.stray == 0);
    CHECK(verdict.new_file == 0);
  }
}

TEST_CASE("crash_states: when syncing the file fails, nothing of it ever stands under the name") {
  for (const Variant& variant : all_variants()) {
    RecordingFileSystem file_system = make_disk(variant);
    file_system.instead_of_fsync = [](bool of_folder) { return of_folder ? std::nullopt : std::optional(-EIO); };
    const auto result = write_model(file_system, variant.replacing, kSmallRows);
    REQUIRE_FALSE(result);
    CHECK(result.error().os_errno == EIO);
    const Verdict verdict = Examination(variant, file_system, false, model_bytes(kSmallRows)).run();
    INFO(variant.describe() << ": " << verdict.first_fault);
    CHECK(verdict.is_clean());
    CHECK(verdict.new_file == 0);
  }
}

TEST_CASE("crash_states: when syncing the folder fails, it is an error, and the old file or the new one stands there") {
  for (const Variant& variant : all_variants()) {
    RecordingFileSystem file_system = make_disk(variant);
    file_system.instead_of_fsync = [](bool of_folder) { return of_folder ? std::optional(-EIO) : std::nullopt; };
    const auto result = write_model(file_system, variant.replacing, kSmallRows);
    REQUIRE_FALSE(result);
    CHECK(result.error().os_errno == EIO);
    const Verdict verdict = Examination(variant, file_system, false, model_bytes(kSmallRows)).run();
    INFO(variant.describe() << ": " << verdict.first_fault);
    CHECK(verdict.is_clean());
    CHECK(verdict.new_file > 0);
    CHECK((variant.replacing ? verdict.old_file : verdict.nothing) > 0);
  }
}

TEST_CASE("crash_states: a writer that does not sync its file is caught: torn files stand under the name") {
  for (const Variant& variant : all_variants()) {
    RecordingFileSystem file_system = make_disk(variant);
    file_system.instead_of_fsync = [](bool of_folder) { return of_folder ? std::nullopt : std::optional(0); };
    REQUIRE(write_model(file_system, variant.replacing, kSmallRows));
    const Verdict verdict = Examination(variant, file_system, true, model_bytes(kSmallRows)).run();
    CHECK(verdict.torn > 0);
    CHECK(verdict.lost > 0);
  }
}

TEST_CASE("crash_states: a writer that does not sync the folder is caught: its file is lost after success") {
  for (const Variant& variant : all_variants()) {
    RecordingFileSystem file_system = make_disk(variant);
    file_system.instead_of_fsync = [](bool of_folder) { return of_folder ? std::optional(0) : std::nullopt; };
    REQUIRE(write_model(file_system, variant.replacing, kSmallRows));
    const Verdict verdict = Examination(variant, file_system, true, model_bytes(kSmallRows)).run();
    CHECK(verdict.torn == 0);
    CHECK(verdict.lost > 0);
  }
}
