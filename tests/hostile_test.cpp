// Hostile files have the outcomes that hostile/make_hostile.py states, and no file costs more than is stated here.
//
// Built twice: hostile_test, also under sanitizers, checks outcomes; hostile_cost_test replaces the allocator and
// measures heap and CPU time as well. Bounds, all of one thread:
//
//   open       heap <= 64 MiB, or 17/16 of the footer and 1 MiB where that is more (a file with such a footer is at
//              least as long); CPU <= 100 ms + 20 ns per byte of the footer
//   an item    heap <= index + buffers + decoder + 4 MiB. Index: its bytes and 1/16 (what is verified). Buffers: for
//              each plane that is decoded twice its largest decoded block, and with pread its largest stored one.
//              Decoder: for brotli a window, the least power of two >= the largest decoded block, at least 64 KiB.
//   metadata   heap <= 16 bytes per decoded byte beside that; CPU <= 100 ms + 20 ns per decoded byte
//   deep fsck  heap <= 64 MiB + the file's length + the item's bound; CPU <= 5 s
//   rebuild    heap <= 64 MiB + the file's length; CPU <= 5 s
//   one row    CPU <= 20 us where rows are short and blocks small, however many there are
//   a safetensors header: heap <= 5 bytes per byte of it; CPU <= 5 s for a million tensors
#include <flatbuffers/flatbuffers.h>
#include <time.h>

#include <algorithm>
#include <bit>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "cdna/fsck.hpp"
#include "cdna/import.hpp"
#include "cdna/reader.hpp"
#include "heap_meter.hpp"
#include "libcdna/format/tail.hpp"
#include "sample_file.hpp"

namespace {

using cdna::test::HeapMeter;
using cdna::test::kMeasuresHeap;
using nlohmann::json;
namespace fs = std::filesystem;
using Bytes = std::vector<std::byte>;

constexpr std::uint64_t kMiB = 1 << 20;
constexpr double kNanoseconds = 1e-9;
constexpr int kTries = 3;  // Of a measurement of time, on a machine that does other things too.
constexpr std::uint64_t kChunkBytes = kMiB;

const fs::path kHostile = CDNA_HOSTILE_DIR;
const fs::path kVectors = fs::path(CDNA_SOURCE_DIR) / "spec" / "vectors";

struct File {
  fs::path path;
  std::string outcome;  // "" where another test knows it.
  std::string error_class;
  std::optional<cdna::Digest> expected_root;
};

json load_json(const fs::path& path) {
  std::ifstream stream(path);
  return json::parse(stream);
}

std::vector<File> hostile_files() {
  std::vector<File> files;
  for (const json& one : load_json(kHostile / "hostile.json")) {
    File file{kHostile / (one["name"].get<std::string>() + ".cdna"), one["outcome"], one["class"], {}};
    if (one["expected_root"].is_string()) file.expected_root = cdna::digest_of(one["expected_root"].get<std::string>());
    files.push_back(std::move(file));
  }
  return files;
}

std::vector<File> all_files() {
  std::vector<File> files = hostile_files();
  for (const char* folder : {"good", "bad", "recover"}) {
    for (const auto& entry : fs::directory_iterator(kVectors / folder)) {
      if (entry.path().extension() == ".cdna") files.push_back({entry.path(), "", "", {}});
    }
  }
  return files;
}

cdna::OpenOptions options_of(const File& file, cdna::Io io) {
  cdna::OpenOptions options;
  options.io = io;
  options.expected_root = file.expected_root;
  return options;
}

// ---- measuring ----

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * kNanoseconds;
}

struct Bound {
  std::uint64_t heap_bytes = 0;
  double seconds = 0;
};

struct Cost {
  std::uint64_t heap_bytes = 0;
  double seconds = 0;
};

// The largest part of a bound that any file used.
struct Usage {
  double part = 0;
  std::string file;
  void note(double used, const std::string& name) {
    if (used > part) {
      part = used;
      file = name;
    }
  }
};

class Ledger {
 public:
  explicit Ledger(const char* what) : what_(what) {}
  ~Ledger() {
    if (!kMeasuresHeap) return;
    std::cout << what_ << ": at most " << heap_.part << " of the heap bound (" << heap_.file << "), " << seconds_.part
              << " of the CPU bound (" << seconds_.file << "), " << count_ << " measurements\n";
  }

  // Runs `work`, again if it took too long.
  template <class Work>
  void check(const std::string& name, const Bound& bound, const Work& work) {
    Cost cost{0, 1e9};
    for (int i = 0; i < kTries && cost.seconds > bound.seconds; ++i) {
      const double begin = cpu_seconds();
      const HeapMeter meter;
      work();
      cost = {std::max(cost.heap_bytes, meter.peak_bytes()), std::min(cost.seconds, cpu_seconds() - begin)};
    }
    if (!kMeasuresHeap) return;
    ++count_;
    INFO(what_ << " " << name << ": heap " << cost.heap_bytes << " of " << bound.heap_bytes << ", CPU " << cost.seconds
               << " of " << bound.seconds);
    CHECK(cost.heap_bytes <= bound.heap_bytes);
    CHECK(cost.seconds <= bound.seconds);
    heap_.note(static_cast<double>(cost.heap_bytes) / static_cast<double>(bound.heap_bytes), name);
    seconds_.note(cost.seconds / bound.seconds, name);
  }

  std::uint64_t count() const { return count_; }

 private:
  const char* what_;
  Usage heap_;
  Usage seconds_;
  std::uint64_t count_ = 0;
};

// ---- bounds ----

// What the last bytes of a file say, without the library's judgement; at most what the file can hold.
std::uint64_t footer_bytes_of(const fs::path& path) {
  const std::uint64_t size = fs::file_size(path);
  if (size < cdna::kTailBytes) return 0;
  std::ifstream stream(path, std::ios::binary);
  stream.seekg(static_cast<std::streamoff>(size - cdna::kTailBytes));
  cdna::wire::Tail tail;
  stream.read(reinterpret_cast<char*>(&tail), sizeof tail);
  return std::min(size, tail.footer_length());
}

Bound open_bound(const fs::path& path) {
  const std::uint64_t footer = footer_bytes_of(path);
  return {std::max(64 * kMiB, footer / 16 * 17 + kMiB), 0.1 + 20 * kNanoseconds * static_cast<double>(footer)};
}

// Requires: geometry that open has checked. The largest decoded block of a plane, from what the footer says.
std::uint64_t block_bytes_max(const cdna::PlaneInfo& plane) {
  if (plane.scope == 2) return 16 * kMiB;  // Any length, by the index only.
  const std::uint64_t entries =
      plane.rows_per_block == 0 ? std::min<std::uint64_t>(plane.row_entries, 1 << 20) : plane.row_entries;
  const std::uint64_t rows = plane.rows_per_block == 0 ? 1 : std::min<std::uint64_t>(plane.rows, plane.rows_per_block);
  return rows * ((entries * plane.bits + 7) / 8);
}

std::uint64_t item_heap_bound(const cdna::Item& item) {
  std::uint64_t bound = item.block_count() * 68 + 4 * kMiB;
  std::uint64_t largest = 0;
  for (std::uint32_t i = 0; i < item.plane_count(); ++i) {
    const cdna::PlaneInfo plane = item.plane(i);
    if (plane.block_count == 0) continue;
    const std::uint64_t decoded = block_bytes_max(plane);
    bound += 2 * decoded + std::min(decoded, plane.stored_bytes);
    if ((plane.codecs & 4) != 0) largest = std::max(largest, std::bit_ceil(std::max<std::uint64_t>(decoded, 65536)));
  }
  if (item.kind() == cdna::ItemKind::metadata) bound += 16 * item.cols();
  return bound + largest;
}

// ---- reading ----

cdna::Result<void> drain_blocks(const cdna::Tensor& tensor) {
  auto blocks = tensor.blocks();
  if (!blocks) return blocks.error();
  for (const cdna::Result<cdna::Block>& block : *blocks) {
    if (!block) return block.error();
  }
  return {};
}

// Every block, and then the first and last rows.
cdna::Result<void> drain_tensor(const cdna::Tensor& tensor) {
  if (auto result = tensor.check_supported(); !result) return result;
  if (auto result = drain_blocks(tensor); !result) return result;
  const cdna::DType dtype = tensor.encoding() == "cdna.exact" ? tensor.dtype() : cdna::DType::f32;
  const std::uint64_t row_bytes = tensor.row_bytes(dtype);
  if (row_bytes == 0 || row_bytes > kChunkBytes || tensor.rows() == 0) return {};
  const std::uint64_t rows = std::min(tensor.rows(), kChunkBytes / row_bytes);
  Bytes out(rows * row_bytes);
  if (auto result = tensor.read_rows(0, rows, dtype, out); !result) return result;
  return tensor.read_rows(tensor.rows() - rows, tensor.rows(), dtype, out);
}

cdna::Result<void> drain_asset(const cdna::Asset& asset) {
  Bytes out(std::min(kChunkBytes, asset.size_bytes()));
  std::uint64_t offset = 0;
  do {
    const auto part = std::span(out).first(std::min<std::uint64_t>(out.size(), asset.size_bytes() - offset));
    if (auto result = asset.read(offset, part); !result) return result;
    offset += part.size();
  } while (offset < asset.size_bytes());
  return {};
}

cdna::Result<void> drain(const cdna::Reader& reader, const cdna::Item& item) {
  if (auto result = item.verify(); !result) return result;
  if (item.kind() == cdna::ItemKind::tensor) return drain_tensor(reader.resolve(item));
  if (item.kind() != cdna::ItemKind::asset && item.kind() != cdna::ItemKind::metadata) return {};
  if (auto result = drain_asset(cdna::Asset(item)); !result) return result;
  if (item.kind() == cdna::ItemKind::asset) return {};
  if (auto metadata = reader.metadata(); !metadata) return metadata.error();
  return {};
}

struct Found {
  std::string outcome;
  std::string error_class = "ok";
};

Found found(const std::string& stage, const cdna::Error& error) {
  return {stage + " " + error.rule, std::string(cdna::name_of(error.code))};
}

cdna::FsckReport deep_check(std::unique_ptr<cdna::Source> source, const std::optional<cdna::Digest>& root = {}) {
  cdna::FsckOptions options;
  options.level = cdna::FsckLevel::deep;
  options.expected_root = root;
  return cdna::fsck(std::move(source), options);
}

// The first rule in the order of spec/format.md 16.2.
template <class Open>
Found first_fault(const Open& open, const cdna::OpenOptions& options) {
  const auto reader = cdna::Reader::open(open(), options);
  if (!reader) return found("open", reader.error());
  for (std::uint32_t number = 0; number < reader->item_count(); ++number) {
    const auto read = drain(*reader, reader->item(number));
    if (!read) return found("item " + std::to_string(number), read.error());
  }
  const cdna::FsckReport report = deep_check(open(), options.expected_root);
  return report.valid ? Found{"clean"} : found("deep", report.problems.at(0).error);
}

std::unique_ptr<cdna::Source> source_of(const fs::path& path, cdna::Io io) {
  return cdna::test::must(cdna::open_source(path.string(), io));
}

// Counts and forgets.
class NullSink final : public cdna::Sink {
 public:
  cdna::Result<void> write(std::span<const std::byte>) override { return {}; }
  cdna::Result<void> commit() override { return {}; }
};

// What a rebuild gives opens: a footer that is made from hostile records is a good one. (Where items require features
// that this version does not know, so does the rebuilt file.)
void check_rebuild(std::unique_ptr<cdna::Source> source) {
  Bytes out;
  const auto rebuilt = cdna::rebuild(*source, cdna::memory_sink(out));
  if (!rebuilt) {
    CHECK(rebuilt.error().code < cdna::Code::io);
    return;
  }
  const auto reader = cdna::Reader::open(cdna::memory_source(out));
  if (!reader) {
    CHECK(std::string(reader.error().rule) == "T10");
    return;
  }
  CHECK(reader->root() == rebuilt->root);
}

std::string utf8_of(std::uint32_t c) {
  const auto byte = [](std::uint32_t value) { return static_cast<char>(value); };
  if (c < 0x80) return {byte(c)};
  if (c < 0x800) return {byte(0xC0 | c >> 6), byte(0x80 | (c & 63))};
  if (c < 0x10000) return {byte(0xE0 | c >> 12), byte(0x80 | (c >> 6 & 63)), byte(0x80 | (c & 63))};
  return {byte(0xF0 | c >> 18), byte(0x80 | (c >> 12 & 63)), byte(0x80 | (c >> 6 & 63)), byte(0x80 | (c & 63))};
}

}  // namespace

TEST_CASE("hostile: every file has the outcome that its generator states") {
  const std::vector<File> files = hostile_files();
  CHECK(files.size() >= 50);
  for (const File& file : files) {
    for (const cdna::Io io : {cdna::Io::pread, cdna::Io::mmap}) {
      INFO(file.path.filename().string());
      const Found fault = first_fault([&] { return source_of(file.path, io); }, options_of(file, io));
      CHECK(fault.outcome == file.outcome);
      CHECK(fault.error_class == file.error_class);
    }
  }
}

TEST_CASE("hostile: every number of every structure at every boundary has the reference decoder's outcome") {
  const json entries = load_json(kHostile / "sweep.json");
  CHECK(entries.size() >= 4000);
  std::ifstream stream(kHostile / "sweep.pack", std::ios::binary);
  for (const json& entry : entries) {
    INFO(entry["name"].get<std::string>());
    Bytes file(entry["length"].get<std::size_t>());
    stream.read(reinterpret_cast<char*>(file.data()), static_cast<std::streamsize>(file.size()));
    REQUIRE(stream);
    for (const bool mapped : {true, false}) {
      const HeapMeter meter;
      CHECK(first_fault([&] { return cdna::memory_source(file, mapped); }, {}).outcome == entry["outcome"]);
      CHECK(meter.peak_bytes() <= 8 * kMiB);  // A file of 3 KB: nothing is allocated by a number from it.
    }
    check_rebuild(cdna::memory_source(file));
  }
}

TEST_CASE("hostile: opening costs no more than is stated") {
  Ledger ledger("open");
  for (const File& file : all_files()) {
    for (const cdna::Io io : {cdna::Io::pread, cdna::Io::mmap}) {
      if (fs::file_size(file.path) == 0) continue;  // Cannot be mapped; conformance_test has it.
      ledger.check(file.path.filename().string(), open_bound(file.path), [&] {
        const auto reader = cdna::Reader::open(source_of(file.path, io), options_of(file, io));
        if (!file.outcome.empty()) CHECK(reader.has_value() == !file.outcome.starts_with("open"));
      });
    }
  }
}

TEST_CASE("hostile: reading items costs no more than is stated") {
  Ledger ledger("item");
  for (const File& file : all_files()) {
    for (const cdna::Io io : {cdna::Io::pread, cdna::Io::mmap}) {
      const auto reader = cdna::Reader::open(file.path.string(), options_of(file, io));
      if (!reader) continue;
      for (std::uint32_t number = 0; number < std::min(reader->item_count(), 500U); ++number) {
        const cdna::Item item = reader->item(number);
        const std::string name = file.path.filename().string() + ", item " + std::to_string(number);
        ledger.check(name, {item_heap_bound(item), 5}, [&] { static_cast<void>(drain(*reader, item)); });
      }
    }
  }
}

TEST_CASE("hostile: metadata costs no more than is stated") {
  Ledger ledger("metadata");
  for (const File& file : all_files()) {
    const auto reader = cdna::Reader::open(file.path.string(), options_of(file, cdna::Io::pread));
    if (!reader || reader->item_count() == 0) continue;
    const cdna::Item last = reader->item(reader->item_count() - 1);
    if (last.kind() != cdna::ItemKind::metadata) continue;
    const Bound bound{item_heap_bound(last), 0.1 + 20 * kNanoseconds * static_cast<double>(last.cols())};
    ledger.check(file.path.filename().string(), bound, [&] { static_cast<void>(reader->metadata()); });
  }
}

TEST_CASE("hostile: a deep check ends within its bounds") {
  Ledger ledger("deep fsck");
  for (const File& file : all_files()) {
    Bound bound{64 * kMiB + fs::file_size(file.path), 5};
    std::uint64_t items = 0;
    if (const auto reader = cdna::Reader::open(file.path.string(), options_of(file, cdna::Io::pread))) {
      for (std::uint32_t i = 0; i < reader->item_count(); ++i)
        items = std::max(items, item_heap_bound(reader->item(i)));
    }
    bound.heap_bytes += items;
    ledger.check(file.path.filename().string(), bound, [&] {
      const auto report = deep_check(source_of(file.path, cdna::Io::pread), file.expected_root);
      CHECK_FALSE(report.operational_failure);
      if (!file.outcome.empty()) CHECK(report.valid == (file.outcome == "clean"));
    });
  }
}

TEST_CASE("hostile: a rebuild ends within its bounds, and what it gives opens") {
  Ledger ledger("rebuild");
  for (const File& file : all_files()) {
    INFO(file.path.filename().string());
    const Bound bound{64 * kMiB + fs::file_size(file.path), 5};
    ledger.check(file.path.filename().string(), bound, [&] {
      static_cast<void>(cdna::rebuild(*source_of(file.path, cdna::Io::pread), std::make_unique<NullSink>()));
    });
    check_rebuild(source_of(file.path, cdna::Io::pread));
  }
}

TEST_CASE("hostile: a record within an asset leads a rebuild astray, to a salvage with another root") {
  const fs::path path = kHostile / "records_imitated.cdna";
  Bytes out;
  const auto rebuilt = cdna::rebuild(*source_of(path, cdna::Io::pread), cdna::memory_sink(out));
  REQUIRE(rebuilt);
  CHECK_FALSE(rebuilt->complete);
  CHECK(rebuilt->item_count == 1);
  CHECK(cdna::test::must(cdna::Reader::open(cdna::memory_source(out))).find_asset("other"));
  CHECK(rebuilt->root != cdna::test::must(cdna::Reader::open(path.string())).root());
}

TEST_CASE("hostile: a checker joins neighbouring bad blocks, lists a thousand problems and counts all") {
  const auto together = deep_check(source_of(kHostile / "many_bad_blocks.cdna", cdna::Io::pread));
  CHECK(together.problem_count == 60'000);
  CHECK(together.blocks_checked == 60'000);
  REQUIRE(together.problems.size() == 1);
  CHECK(together.problems[0].end - together.problems[0].begin == 60'000);
  CHECK(together.problems[0].error.block == 0);
  const auto apart = deep_check(source_of(kHostile / "many_scattered_bad_blocks.cdna", cdna::Io::pread));
  CHECK(apart.problem_count == 10'000);
  REQUIRE(apart.problems.size() == 1000);
  CHECK(apart.problems.back().error.block == 1998);
  CHECK(apart.problems.back().error.item == std::string(1024, 'b'));
}

TEST_CASE("hostile: the meter sees what is allocated, by operator new and by C, and that it is freed") {
  const HeapMeter meter;
  { const Bytes bytes(3 * kMiB); }
  void* const memory = std::malloc(2 * kMiB);
  std::free(memory);
  const std::uint64_t peak = meter.peak_bytes();
  CHECK(peak >= (kMeasuresHeap ? 3 * kMiB : 0));
  CHECK(peak <= (kMeasuresHeap ? 3 * kMiB + 65'536 : 0));
}

TEST_CASE("hostile: reading row after row costs as much as there are rows") {
  const fs::path path = kHostile / "many_scale_blocks.cdna";
  const cdna::Reader reader = cdna::test::must(cdna::Reader::open(path.string()));
  const cdna::Tensor tensor = *reader.find("t");
  REQUIRE(tensor.rows() == 50'000);
  Ledger ledger("rows");
  ledger.check(path.filename().string(), {item_heap_bound(tensor), 50'000 * 20e-6}, [&] {
    Bytes row(tensor.row_bytes(cdna::DType::f32));
    for (std::uint64_t i = 0; i < tensor.rows(); ++i) {
      const auto read = tensor.read_rows(i, i + 1, cdna::DType::f32, row);
      if (!read) FAIL(read.error().describe());
    }
  });
}

TEST_CASE("hostile: a safetensors header of a million tensors costs no more than is stated") {
  const int count = kMeasuresHeap ? 1'000'000 : 20'000;
  std::string json;
  for (int i = 0; i < count; ++i) {
    json += (i == 0 ? "{\"" : ",\"") + std::to_string(i);
    json += R"(":{"dtype":"U8","shape":[],"data_offsets":[)" + std::to_string(i) + "," + std::to_string(i + 1) + "]}";
  }
  json += "}";
  Bytes file(8);
  for (std::size_t i = 0; i < 8; ++i) file[i] = static_cast<std::byte>(json.size() >> (8 * i));
  const auto text = std::as_bytes(std::span(json));
  file.insert(file.end(), text.begin(), text.end());
  file.resize(file.size() + static_cast<std::size_t>(count));
  Ledger ledger("header");
  ledger.check("a million tensors", {5 * file.size(), 5}, [&] {
    const auto model = cdna::open_safetensors(cdna::memory_source(file));
    REQUIRE(model);
    CHECK((*model)->tensors().size() == static_cast<std::size_t>(count));
  });
}

TEST_CASE("hostile: of all characters those are escaped that could act on a terminal") {
  const auto is_escaped = [](std::uint32_t c) {
    return c < 0x20 || (c >= 0x7F && c <= 0x9F) || c == '\\' || c == 0x61C || c == 0x200E || c == 0x200F ||
           (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
  };
  for (std::uint32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    const std::string text = utf8_of(c);
    const std::string shown = cdna::escape(text);
    const bool ascii = std::all_of(shown.begin(), shown.end(), [](char byte) { return byte >= 0x20 && byte < 0x7F; });
    if (is_escaped(c) ? !ascii || shown[0] != '\\' : shown != text) FAIL_CHECK("character " << c << ": " << shown);
  }
  CHECK(cdna::escape("\xFF\xC0\x80\xED\xA0\x80") == R"(\xff\xc0\x80\xed\xa0\x80)");
}

TEST_CASE("hostile: a message shows the first 1024 bytes of an item's name") {
  cdna::Error error;
  error.item = std::string(1'000'000, 'n');
  CHECK(error.describe().size() < 1200);
  error.item = std::string(1024, 'n');
  CHECK(error.describe().find("'" + error.item + "'") != std::string::npos);
}

TEST_CASE("hostile: the FlatBuffers bomb is refused in less than 50 ms") {
  const fs::path path = kHostile / "flat_shared_vectors.cdna";
  CHECK(footer_bytes_of(path) > 500'000);
  Ledger ledger("bomb");
  ledger.check("flat_shared_vectors", {2 * kMiB, 0.05}, [&] {
    const auto reader = cdna::Reader::open(path.string());
    REQUIRE_FALSE(reader);
    CHECK(std::string(reader.error().rule) == "F2");
  });
}

// ---- why no FlatBuffers verifier runs in the reader ----

namespace {

using flatbuffers::Offset;
using Strings = flatbuffers::Vector<Offset<flatbuffers::String>>;
constexpr flatbuffers::voffset_t kField = 4;

std::uint64_t strings_looked_at = 0;

// What flatc generates for `table Inner { names: [string]; }`, with a count of the strings that the verifier goes on
// to.
struct Inner : private flatbuffers::Table {
  bool Verify(flatbuffers::Verifier& verifier) const {
    const auto* const names = GetPointer<const Strings*>(kField);
    strings_looked_at += names == nullptr ? 0 : names->size();
    return VerifyTableStart(verifier) && VerifyOffset(verifier, kField) && verifier.VerifyVector(names) &&
           verifier.VerifyVectorOfStrings(names) && verifier.EndTable();
  }
};

// And for `table Outer { tables: [Inner]; }`.
struct Outer : private flatbuffers::Table {
  bool Verify(flatbuffers::Verifier& verifier) const {
    const auto* const tables = GetPointer<const flatbuffers::Vector<Offset<Inner>>*>(kField);
    return VerifyTableStart(verifier) && VerifyOffset(verifier, kField) && verifier.VerifyVector(tables) &&
           verifier.VerifyVectorOfTables(tables) && verifier.EndTable();
  }
};

template <class T>
Offset<T> table_with(flatbuffers::FlatBufferBuilder& builder, Offset<void> field) {
  const auto start = builder.StartTable();
  builder.AddOffset(kField, field);
  return Offset<T>(builder.EndTable(start));
}

flatbuffers::DetachedBuffer shared_vectors(std::size_t count) {
  flatbuffers::FlatBufferBuilder builder;
  const auto name = builder.CreateString("x");
  const auto names = builder.CreateVector(std::vector<Offset<flatbuffers::String>>(count, name));
  const auto inner = table_with<Inner>(builder, names.Union());
  const auto tables = builder.CreateVector(std::vector<Offset<Inner>>(count, inner));
  builder.Finish(table_with<Outer>(builder, tables.Union()));
  return builder.Release();
}

}  // namespace

TEST_CASE("hostile: the stock verifier accepts shared vectors and looks at the square of what the file holds") {
  for (const std::size_t count : {100U, 200U, 400U, 1600U}) {
    const flatbuffers::DetachedBuffer buffer = shared_vectors(count);
    CHECK(buffer.size() < 8 * count + 100);
    strings_looked_at = 0;
    flatbuffers::Verifier verifier(buffer.data(), buffer.size());
    CHECK(verifier.VerifyBuffer<Outer>(nullptr));
    CHECK(strings_looked_at == count * count);
  }
}
