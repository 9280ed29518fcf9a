// The C interface: metadata, assets, and checking files with progress, problems and cancellation.
#include <atomic>
#include <catch2/catch.hpp>
#include <future>
#include <thread>

#include "../sample_file.hpp"
#include "cdna/fsck.hpp"
#include "cdna/reader.hpp"
#include "handles.hpp"

namespace {

using namespace cdna::test;

const Bytes& sample() {
  static const Bytes bytes = make_sample();
  return bytes;
}

cdna_metadata_value value_at(const ReaderHandle& reader, std::uint64_t index) {
  auto value = sized<cdna_metadata_value>();
  must_c([&](cdna_error* error) { return cdna_metadata_at(reader.get(), index, &value, error); });
  return value;
}

std::uint64_t metadata_count(const ReaderHandle& reader) {
  std::uint64_t count = 0;
  must_c([&](cdna_error* error) { return cdna_metadata_count(reader.get(), &count, error); });
  return count;
}

std::string text_of(const cdna_metadata_value& value) {
  CHECK(static_cast<const char*>(value.data)[value.size] == 0);
  return {static_cast<const char*>(value.data), value.size};
}

void check_value(const cdna_metadata_value& value, const cdna::MetadataValue& expected) {
  REQUIRE(value.kind == expected.index());
  if (const auto* const given = std::get_if<bool>(&expected)) CHECK(value.integer == (*given ? 1 : 0));
  if (const auto* const given = std::get_if<std::int64_t>(&expected)) CHECK(value.integer == *given);
  if (const auto* const given = std::get_if<std::uint64_t>(&expected)) CHECK(value.uinteger == *given);
  if (const auto* const given = std::get_if<double>(&expected)) CHECK(value.real == *given);
  if (const auto* const given = std::get_if<std::string>(&expected)) CHECK(text_of(value) == *given);
  if (const auto* const given = std::get_if<cdna::JsonText>(&expected)) CHECK(text_of(value) == given->text);
  if (const auto* const given = std::get_if<std::vector<std::byte>>(&expected))
    CHECK(text_of(value) == std::string(reinterpret_cast<const char*>(given->data()), given->size()));
  const bool pooled = value.kind >= CDNA_STRING;
  CHECK((value.data != nullptr) == pooled);
  if (!pooled) CHECK(value.size == 0);
}

// One byte of the block of every item that has one is wrong.
Bytes damaged_everywhere(std::size_t& count) {
  Bytes bytes = sample();
  for (const Region& region : regions_of(sample())) {
    if (region.part != Part::block || region.begin == region.end) continue;
    bytes[region.begin] ^= std::byte{1};
    ++count;
  }
  return bytes;
}

struct Problems {
  std::vector<std::string> texts;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> extents;
  std::size_t stop_at = ~std::size_t{0};

  static int32_t note(void* context, const cdna_error* error, std::uint64_t begin, std::uint64_t end) {
    auto& self = *static_cast<Problems*>(context);
    self.texts.push_back(described(*error));
    self.extents.emplace_back(begin, end);
    return self.texts.size() >= self.stop_at ? 1 : 0;
  }
};

struct Progress {
  std::vector<std::uint64_t> done;
  std::uint64_t total = 0;
  std::size_t stop_at = ~std::size_t{0};
  std::thread::id thread;

  static int32_t note(void* context, std::uint64_t bytes_done, std::uint64_t bytes_total) {
    auto& self = *static_cast<Progress*>(context);
    self.done.push_back(bytes_done);
    self.total = bytes_total;
    self.thread = std::this_thread::get_id();
    return self.done.size() >= self.stop_at ? -1 : 0;
  }
};

}  // namespace

// ---- Metadata ----

TEST_CASE("c: metadata is read by several threads at once, and none waits in a source of the caller's") {
  // The first read of metadata returns when another thread has had all of it.
  struct Waiting : CallbackFile {
    std::atomic<int> asked{-1};  // Reads since metadata was asked for.
    std::promise<void> had;

    static std::int32_t read_and_wait(void* context, std::uint64_t offset, void* out, std::uint64_t size) {
      auto& self = *static_cast<Waiting*>(context);
      if (self.asked >= 0 && self.asked++ == 0) self.had.get_future().wait();
      std::memcpy(out, self.bytes.data() + offset, size);
      return 0;
    }
  } file;
  file.bytes = sample();
  cdna_source source = file.source("waiting");
  source.read_at = Waiting::read_and_wait;
  cdna_reader* opened = nullptr;
  must_c([&](cdna_error* error) { return cdna_open_source(&source, nullptr, &opened, error); });
  const ReaderHandle reader(opened);
  file.asked = 0;
  cdna_metadata_value first = sized<cdna_metadata_value>();
  cdna_code code = CDNA_END;
  std::thread waiting([&] { code = cdna_metadata_at(opened, 0, &first, nullptr); });
  while (file.asked == 0) std::this_thread::yield();
  const cdna_metadata_value second = value_at(reader, 0);
  file.had.set_value();
  waiting.join();
  REQUIRE(code == CDNA_OK);
  CHECK(first.key == second.key);  // One copy is kept.
}

TEST_CASE("c: metadata of every type is the library's, in order, and found by key") {
  const cdna::Metadata expected = must(must(cdna::Reader::open(cdna::memory_source(sample()))).metadata());
  const ReaderHandle reader = open_c(sample());
  REQUIRE(metadata_count(reader) == expected.size());
  std::uint64_t index = 0;
  for (const auto& [key, value] : expected) {
    const cdna_metadata_value given = value_at(reader, index++);
    CHECK(given.key == key);
    CHECK(given.key_size == key.size());
    check_value(given, value);
    auto found = sized<cdna_metadata_value>();
    REQUIRE(cdna_metadata_find(reader.get(), key.c_str(), &found, nullptr) == CDNA_OK);
    CHECK(found.key == given.key);  // The same pointers.
    CHECK(found.data == given.data);
  }
  cdna_error error{};
  auto value = sized<cdna_metadata_value>();
  CHECK(cdna_metadata_find(reader.get(), "strin", &value, &error) == CDNA_NOT_FOUND);
  CHECK(described(error) == "no metadata of the key 'strin' [not_found]");
  CHECK(cdna_metadata_at(reader.get(), expected.size(), &value, &error) == CDNA_BAD_ARGUMENT);
  CHECK(described(error) == "index is 9 of 9 [bad_argument]");
}

TEST_CASE("c: a key with a 0 in it is whole, and empty values end with a 0") {
  const Bytes file = write_file({}, [](cdna::Writer&) {},
                                {{std::string("a\0b", 3), std::string()}, {"bytes", std::vector<std::byte>()}});
  const ReaderHandle reader = open_c(file);
  const cdna_metadata_value value = value_at(reader, 0);
  CHECK(std::string(value.key, value.key_size) == std::string("a\0b", 3));
  CHECK(text_of(value).empty());
  CHECK(text_of(value_at(reader, 1)).empty());
  CHECK(metadata_count(reader) == 3);  // The writer's own comes third.
}

TEST_CASE("c: metadata is read once, by whichever of eight threads comes first, and read again after a failure") {
  CallbackFile file{sample()};
  const cdna_source source = file.source("s");
  cdna_reader* opened = nullptr;
  must_c([&](cdna_error* error) { return cdna_open_source(&source, nullptr, &opened, error); });
  const ReaderHandle reader(opened);
  const cdna::Reader cpp = must(cdna::Reader::open(cdna::memory_source(sample())));
  file.place = cpp.item(cpp.item_count() - 1).plane(0).offset;
  file.outcome = EIO;
  std::uint64_t count = 5;
  CHECK(cdna_metadata_count(reader.get(), &count, nullptr) == CDNA_IO);
  CHECK(count == 5);
  file.outcome = 0;
  file.place = ~std::uint64_t{0};
  std::vector<const char*> keys(8);
  // Reads are counted without a lock: only one thread may come to them.
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < keys.size(); ++i) threads.emplace_back([&, i] { keys[i] = value_at(reader, 3).key; });
  for (std::thread& thread : threads) thread.join();
  const std::size_t reads = file.reads;
  for (const char* const key : keys) CHECK(key == value_at(reader, 3).key);
  CHECK(file.reads == reads);
}

// ---- Assets ----

TEST_CASE("c: assets are found, described and read in parts") {
  const cdna::Reader cpp = must(cdna::Reader::open(cdna::memory_source(sample())));
  const ReaderHandle reader = open_c(sample());
  REQUIRE(cdna_asset_count(reader.get()) == 4);
  std::string last;
  for (std::uint64_t i = 0; i < 4; ++i) {
    auto info = sized<cdna_asset_info>();
    must_c([&](cdna_error* error) { return cdna_asset_describe(reader.get(), i, &info, error); });
    const cdna::Asset asset = *cpp.find_asset(info.name);
    CHECK(last < info.name);
    last = info.name;
    CHECK(info.media_type == asset.media_type());
    CHECK(info.size == asset.size_bytes());
    CHECK(info.stored_bytes == asset.stored_bytes());
    std::uint64_t found = 99;
    CHECK(cdna_asset_find(reader.get(), info.name, &found, nullptr) == CDNA_OK);
    CHECK(found == i);
    Bytes expected(asset.size_bytes());
    REQUIRE(asset.read(0, expected));
    Bytes out(expected.size());
    for (std::uint64_t at = 0; at < out.size(); at += 100) {
      const std::uint64_t size = std::min<std::uint64_t>(100, out.size() - at);
      REQUIRE(cdna_asset_read(reader.get(), i, at, out.data() + at, size, nullptr) == CDNA_OK);
    }
    CHECK(out == expected);
    cdna_error error{};
    CHECK(cdna_asset_read(reader.get(), i, info.size, nullptr, 0, &error) == CDNA_OK);
    CHECK(cdna_asset_read(reader.get(), i, info.size, out.data(), 1, &error) == CDNA_BAD_ARGUMENT);
    CHECK(cdna_asset_read(reader.get(), i, 1, out.data(), ~std::uint64_t{0}, &error) == CDNA_BAD_ARGUMENT);
  }
  std::uint64_t found = 99;
  CHECK(cdna_asset_find(reader.get(), "lm_head.weight", &found, nullptr) == CDNA_NOT_FOUND);
  CHECK(found == 99);
  cdna_error error{};
  auto info = sized<cdna_asset_info>();
  CHECK(cdna_asset_describe(reader.get(), 4, &info, &error) == CDNA_BAD_ARGUMENT);
  CHECK(described(error) == "asset is 4 of 4 [bad_argument]");
}

// ---- Verifying ----

TEST_CASE("c: a good file is right at every level, with progress from the calling thread") {
  const ReaderHandle reader = open_c(sample());
  for (const std::uint32_t level : {CDNA_VERIFY_QUICK, CDNA_VERIFY_STANDARD, CDNA_VERIFY_DEEP}) {
    for (const std::uint32_t threads : {0U, 1U, 3U}) {
      Progress progress;
      cdna_verify_options options = CDNA_VERIFY_OPTIONS_INIT;
      options.level = level;
      options.threads = threads;
      options.progress = Progress::note;
      options.progress_context = &progress;
      auto report = sized<cdna_verify_report>();
      must_c([&](cdna_error* error) { return cdna_verify(reader.get(), &options, &report, error); });
      CHECK(report.problem_count == 0);
      CHECK(report.unsupported_count == 0);
      CHECK((report.blocks_checked != 0) == (level != CDNA_VERIFY_QUICK));
      if (level == CDNA_VERIFY_QUICK) continue;
      REQUIRE_FALSE(progress.done.empty());
      CHECK(std::is_sorted(progress.done.begin(), progress.done.end()));
      CHECK(progress.total == sample().size());
      CHECK(progress.thread == std::this_thread::get_id());
    }
  }
  CHECK(cdna_verify(reader.get(), nullptr, nullptr, nullptr) == CDNA_OK);
}

TEST_CASE("c: problems come in order, all of them, as the library's") {
  std::size_t count = 0;
  const Bytes damaged = damaged_everywhere(count);
  const cdna::FsckReport expected = cdna::fsck(cdna::memory_source(damaged));
  const ReaderHandle reader = open_c(damaged);
  Problems problems;
  cdna_verify_options options = CDNA_VERIFY_OPTIONS_INIT;
  options.threads = 2;
  options.problem = Problems::note;
  options.problem_context = &problems;
  auto report = sized<cdna_verify_report>();
  cdna_error error{};
  CHECK(cdna_verify(reader.get(), &options, &report, &error) == CDNA_CORRUPT);
  CHECK(report.problem_count == count);
  REQUIRE(problems.texts.size() == expected.problems.size());
  for (std::size_t i = 0; i < problems.texts.size(); ++i) {
    CHECK(problems.texts[i] == expected.problems[i].error.describe());
    CHECK(problems.extents[i] == std::pair(expected.problems[i].begin, expected.problems[i].end));
  }
  CHECK(described(error) == problems.texts[0]);
  CHECK(cdna_verify(reader.get(), nullptr, nullptr, nullptr) == CDNA_CORRUPT);
}

TEST_CASE("c: a check is cancelled by progress and by problems, and the report stays as it was") {
  std::size_t count = 0;
  const Bytes damaged = damaged_everywhere(count);
  const ReaderHandle reader = open_c(damaged);
  Progress progress;
  Problems problems;
  cdna_verify_options options = CDNA_VERIFY_OPTIONS_INIT;
  options.progress = Progress::note;
  options.progress_context = &progress;
  options.problem = Problems::note;
  options.problem_context = &problems;
  auto report = sized<cdna_verify_report>();
  report.item_count = 4711;
  must_c(
      [&](cdna_error*) { return cdna_verify(reader.get(), nullptr, nullptr, nullptr) == CDNA_CORRUPT ? CDNA_OK : 1; });
  REQUIRE(cdna_verify(reader.get(), &options, nullptr, nullptr) == CDNA_CORRUPT);
  const std::size_t calls = progress.done.size();
  for (const std::size_t stop_at : {std::size_t{1}, std::size_t{2}, calls}) {
    progress.done.clear();
    problems.texts.clear();
    progress.stop_at = stop_at;
    cdna_error error{};
    CHECK(cdna_verify(reader.get(), &options, &report, &error) == CDNA_CANCELLED);
    CHECK(described(error) == "stopped on request [cancelled]");
    CHECK(progress.done.size() == stop_at);  // It is not asked again.
    CHECK(problems.texts.empty());
    CHECK(report.item_count == 4711);
  }
  progress.stop_at = ~std::size_t{0};
  problems.stop_at = 2;
  CHECK(cdna_verify(reader.get(), &options, &report, nullptr) == CDNA_CANCELLED);
  CHECK(problems.texts.size() == 2);
  CHECK(report.item_count == 4711);
}

TEST_CASE("c: a check reads the file anew, and what it cannot read is no verdict") {
  CallbackFile file{sample()};
  const cdna_source source = file.source("s");
  cdna_reader* opened = nullptr;
  must_c([&](cdna_error* error) { return cdna_open_source(&source, nullptr, &opened, error); });
  const ReaderHandle reader(opened);
  CHECK(cdna_verify(reader.get(), nullptr, nullptr, nullptr) == CDNA_OK);
  const cdna::Reader cpp = must(cdna::Reader::open(cdna::memory_source(sample())));
  const std::uint64_t place = cpp.item(0).plane(0).offset;
  file.bytes[place] ^= std::byte{1};
  CHECK(cdna_verify(reader.get(), nullptr, nullptr, nullptr) == CDNA_CORRUPT);
  file.place = place;
  file.outcome = EIO;
  auto report = sized<cdna_verify_report>();
  report.item_count = 4711;
  cdna_error error{};
  CHECK(cdna_verify(reader.get(), nullptr, &report, &error) == CDNA_IO);
  CHECK(error.os_errno == EIO);
  CHECK(report.item_count == 4711);
}

TEST_CASE("c: a block that was corrupt stays so for its reader, and another reader asks anew") {
  CallbackFile file{sample()};
  const cdna_source source = file.source("s");
  const auto open = [&source] {
    cdna_reader* opened = nullptr;
    must_c([&](cdna_error* error) { return cdna_open_source(&source, nullptr, &opened, error); });
    return ReaderHandle(opened);
  };
  const auto acquire = [](const ReaderHandle& reader) {
    cdna_block block = CDNA_BLOCK_INIT;
    const cdna_code code = cdna_block_acquire(reader.get(), find_c(reader, "layers.0.brotli"), 0, &block, nullptr);
    cdna_block_release(&block);
    return code;
  };
  const cdna::Reader cpp = must(cdna::Reader::open(cdna::memory_source(sample())));
  const std::uint64_t place = cpp.find("layers.0.brotli")->plane(0).offset;
  const ReaderHandle reader = open();
  file.bytes[place] ^= std::byte{1};
  CHECK(acquire(reader) == CDNA_CORRUPT);
  file.bytes[place] ^= std::byte{1};
  CHECK(acquire(reader) == CDNA_CORRUPT);
  CHECK(acquire(open()) == CDNA_OK);
}

TEST_CASE("c: a check of a file that has become another one says so") {
  const auto file_with = [](const char* text) {
    return write_file({}, [](cdna::Writer&) {}, {{"k", std::string(text)}});
  };
  CallbackFile file{file_with("one")};
  const cdna_source source = file.source("s");
  cdna_reader* opened = nullptr;
  must_c([&](cdna_error* error) { return cdna_open_source(&source, nullptr, &opened, error); });
  const ReaderHandle reader(opened);
  file.bytes = file_with("two");
  REQUIRE(file.bytes.size() == source.size_bytes);
  CHECK(cdna_verify(reader.get(), nullptr, nullptr, nullptr) == CDNA_ROOT_MISMATCH);
}

TEST_CASE("c: a tensor is verified alone") {
  Bytes damaged = sample();
  const cdna::Reader cpp = must(cdna::Reader::open(cdna::memory_source(sample())));
  damaged[cpp.find("layers.0.brotli")->plane(0).offset] ^= std::byte{1};
  const ReaderHandle reader = open_c(damaged);
  for (std::uint64_t i = 0; i < cdna_tensor_count(reader.get()); ++i) {
    const bool is_damaged = std::string(describe_c(reader, i).name) == "layers.0.brotli";
    CHECK(cdna_tensor_verify(reader.get(), i, nullptr) == (is_damaged ? CDNA_CORRUPT : CDNA_OK));
  }
  CHECK(cdna_tensor_verify(reader.get(), 13, nullptr) == CDNA_BAD_ARGUMENT);
}
