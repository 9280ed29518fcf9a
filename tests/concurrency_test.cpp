// One Reader for many threads: what they read is right, what is damaged is refused, whoever touches it first. And work
// that is done by many threads and taken in order.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <optional>
#include <thread>

#include "libcdna/ordered_run.hpp"
#include "sample_file.hpp"

namespace {

using cdna::test::must;
using cdna::test::Part;
using cdna::test::reader_of;
using Bytes = std::vector<std::byte>;

constexpr std::uint64_t kSeed = 31337;
constexpr unsigned kThreads = 16;
constexpr unsigned kRounds = 12;  // Each with a new Reader, so that all first touches race again.
constexpr unsigned kReadsPerThread = 40;

// A tensor, what it decodes to, and which rows cannot be had.
struct Known {
  std::string name;
  cdna::DType dtype = cdna::DType::none;
  std::uint64_t rows = 0;
  std::uint64_t row_bytes = 0;
  std::uint64_t rows_per_block = 0;
  std::vector<bool> damaged;  // Blocks of plane 0.
  bool lost = false;          // Its index or a table that all blocks need is damaged: nothing can be had.
  Bytes content;
};

struct DamagedFile {
  Bytes bytes;
  Bytes pristine;
  std::vector<Known> tensors;
};

Bytes pristine_file() {
  cdna::test::Random random(kSeed);
  const Bytes noise = random.bytes(600 << 10);
  Bytes half = noise;
  for (std::size_t i = 0; i < half.size(); i += 2) half[i] = std::byte{0};
  const Bytes weights = cdna::test::bytes_of_values(random.weights(600 << 8));
  return cdna::test::write_file({}, [&](cdna::Writer& writer) {
    const auto exact = [&](const char* name, cdna::Codec codec, const Bytes& data) {
      must(writer.add_exact({name, cdna::DType::u8, {600, 1024}, cdna::Role::embedding, codec}, reader_of(data)));
    };
    const auto codebook = [&](const char* name, cdna::Codec codec) {
      // 300 rows of 512: one block of codes, so a second tensor of longer rows has several.
      must(writer.add_codebook({name, cdna::DType::f32, {300, 512}, cdna::Role::embedding, codec}, {},
                               reader_of(weights)));
    };
    exact("raw", cdna::Codec::raw, noise);
    exact("raw, a block damaged", cdna::Codec::raw, noise);
    exact("zstd", cdna::Codec::zstd, half);
    exact("zstd, a block damaged", cdna::Codec::zstd, half);
    exact("brotli", cdna::Codec::brotli, half);
    exact("index damaged", cdna::Codec::raw, noise);
    codebook("codebook", cdna::Codec::raw);
    codebook("codebook damaged", cdna::Codec::zstd);
  });
}

const DamagedFile& damaged_file() {
  static const DamagedFile result = [] {
    DamagedFile file{pristine_file(), {}, {}};
    file.pristine = file.bytes;
    const auto regions = cdna::test::regions_of(file.bytes);
    const cdna::Reader reader = must(cdna::Reader::open(cdna::memory_source(file.bytes)));
    std::vector<std::uint64_t> flips;
    for (std::uint32_t number = 0; number < 8; ++number) {
      const cdna::Tensor tensor = reader.resolve(reader.item(number));
      Known known;
      known.name = tensor.name();
      known.dtype = tensor.encoding() == "cdna.exact" ? tensor.dtype() : cdna::DType::f32;
      known.rows = tensor.rows();
      known.row_bytes = tensor.row_bytes(known.dtype);
      known.rows_per_block = tensor.plane(0).rows_per_block;
      known.damaged.resize(tensor.plane(0).block_count);
      known.content = must(cdna::test::read_item(reader, number));
      std::vector<std::uint64_t> places;  // Middles of the blocks, then of the index.
      for (const cdna::test::Region& region : regions) {
        if (region.item == number && region.part != Part::record) places.push_back((region.begin + region.end) / 2);
      }
      if (known.name.ends_with(", a block damaged")) {
        known.damaged.at(1) = true;
        flips.push_back(places.at(1));
      } else if (known.name == "index damaged") {
        known.lost = true;
        flips.push_back(places.back());
      } else if (known.name == "codebook damaged") {
        known.lost = true;
        flips.push_back(tensor.plane(1).offset + 100);
      }
      file.tensors.push_back(std::move(known));
    }
    for (const std::uint64_t at : flips) file.bytes[at] ^= std::byte{8};
    return file;
  }();
  return result;
}

class Failures {
 public:
  void add(std::string text) {
    const std::lock_guard lock(mutex_);
    if (texts_.size() < 10) texts_.push_back(std::move(text));
  }
  void report() const {
    for (const std::string& text : texts_) FAIL_CHECK(text);
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> texts_;
};

// What is wrong with an answer of read_rows(), or "".
std::string judge(const Known& known, std::uint64_t begin, std::uint64_t end, const cdna::Result<void>& result,
                  const Bytes& rows) {
  bool damaged = known.lost;
  for (std::uint64_t row = begin; row < end && !damaged; ++row) damaged = known.damaged[row / known.rows_per_block];
  if (damaged) {
    if (result) return "came although it is damaged";
    const std::string rule = result.error().rule;
    const bool right = rule == (known.name == "index damaged" ? "X1" : "B1") && result.error().item == known.name;
    return right ? "" : "failed otherwise: " + result.error().describe();
  }
  if (!result) return "failed: " + result.error().describe();
  const auto from = known.content.begin() + static_cast<std::ptrdiff_t>(begin * known.row_bytes);
  return std::equal(rows.begin(), rows.end(), from) ? "" : "are wrong";
}

// One read of some rows. Returns what is wrong with it, or "".
std::string check_rows(const cdna::Reader& reader, const Known& known, std::uint64_t begin, std::uint64_t end) {
  const auto tensor = reader.find(known.name);
  if (!tensor) return "is not found";
  Bytes rows((end - begin) * known.row_bytes);
  const auto result = tensor->read_rows(begin, end, known.dtype, rows);
  return judge(known, begin, end, result, rows);
}

std::string check_blocks(const cdna::Reader& reader, const Known& known) {
  auto range = reader.find(known.name)->blocks();
  if (!range) return known.name == "index damaged" ? "" : "blocks failed: " + range.error().describe();
  if (known.dtype == cdna::DType::f32) return "";  // Codes are not values: check_rows() decodes them.
  for (const cdna::Result<cdna::Block>& block : *range) {
    if (!block) {
      const auto number = static_cast<std::size_t>(block.error().block);
      if (number >= known.damaged.size() || !known.damaged[number]) return "block failed: " + block.error().describe();
      continue;
    }
    if (known.damaged[block->number]) return "block " + std::to_string(block->number) + " came although it is damaged";
    const auto from = known.content.begin() + static_cast<std::ptrdiff_t>(block->row_begin * known.row_bytes);
    if (!std::equal(block->data.begin(), block->data.end(), from)) {
      return "block " + std::to_string(block->number) + " is wrong";
    }
  }
  return "";
}

void read_randomly(const cdna::Reader& reader, std::uint64_t seed, Failures& failures) {
  cdna::test::Random random(seed);
  const std::vector<Known>& tensors = damaged_file().tensors;
  for (unsigned i = 0; i < kReadsPerThread; ++i) {
    // The first reads of all threads are of the same tensors in the same order: that is where touches race.
    const Known& known = tensors[i < tensors.size() ? i : random.below(tensors.size())];
    const std::uint64_t begin = random.below(known.rows);
    const std::uint64_t end = begin + std::min<std::uint64_t>(random.below(40), known.rows - begin);
    std::string fault = check_rows(reader, known, begin, end);
    if (end > begin && !fault.empty()) {
      failures.add("'" + known.name + "', rows " + std::to_string(begin) + " to " + std::to_string(end) + " " + fault);
    }
    if (i % 8 != 7) continue;
    fault = check_blocks(reader, known);
    if (!fault.empty()) failures.add("'" + known.name + "': " + fault);
  }
}

void race(const cdna::Reader& reader, std::uint64_t seed, Failures& failures) {
  std::barrier start(kThreads);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      start.arrive_and_wait();
      read_randomly(reader, seed * 1000 + i, failures);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

TEST_CASE("concurrency: 16 threads that share a reader get right rows and right errors, mapped") {
  CAPTURE(kSeed);
  Failures failures;
  for (unsigned round = 0; round < kRounds; ++round) {
    race(must(cdna::Reader::open(cdna::memory_source(damaged_file().bytes))), kSeed + round, failures);
  }
  failures.report();
}

TEST_CASE("concurrency: 16 threads that share a reader get right rows and right errors, strict") {
  CAPTURE(kSeed);
  Failures failures;
  for (unsigned round = 0; round < kRounds / 4; ++round) {
    race(must(cdna::Reader::open(cdna::memory_source(damaged_file().bytes, false))), kSeed + round, failures);
  }
  failures.report();
}

TEST_CASE("concurrency: racing first touches verify each block at most once per thread, and later ones never") {
  const cdna::Reader reader = must(cdna::Reader::open(cdna::memory_source(damaged_file().bytes)));
  const cdna::Tensor tensor = reader.find("raw").value();
  const auto verify_in_all_threads = [&tensor] {
    std::barrier start(kThreads);
    std::atomic<unsigned> verified{0};
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        start.arrive_and_wait();
        verified += tensor.verify() ? 1U : 0U;
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(verified == kThreads);
  };
  verify_in_all_threads();
  const std::uint64_t first = reader.statistics().blocks_verified;
  CHECK(first >= tensor.block_count());
  CHECK(first <= kThreads * tensor.block_count());
  verify_in_all_threads();
  CHECK(reader.statistics().blocks_verified == first);
}

TEST_CASE("concurrency: a reader may be copied and dropped while other threads read") {
  const cdna::Reader shared = must(cdna::Reader::open(cdna::memory_source(damaged_file().bytes)));
  Failures failures;
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i, copy = shared] {
      for (int turn = 0; turn < 20; ++turn) {
        const cdna::Reader mine = copy;
        const std::string fault = check_rows(mine, damaged_file().tensors[0], i, i + 1);
        if (!fault.empty()) failures.add(fault);
        if (!mine.metadata()) failures.add("no metadata");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  failures.report();
}

// ---- A source that fails ----

namespace {

constexpr std::uint64_t kFailOneIn = 16;

// Faults that the calling thread has met.
thread_local std::uint64_t faults_met = 0;

// A damaged file, some of whose reads fail; later the damage is gone.
class FlakySource final : public cdna::Source {
 public:
  explicit FlakySource(bool mapped) : mapped_(mapped) {}
  std::uint64_t size_bytes() const override { return bytes().size(); }
  std::span<const std::byte> mapping() const override {
    return mapped_ ? std::span<const std::byte>(bytes()) : std::span<const std::byte>{};
  }
  cdna::Result<void> populate(std::uint64_t, std::uint64_t) const override { return flap(); }
  cdna::Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    if (auto result = flap(); !result) return result;
    std::copy_n(bytes().begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
    return {};
  }

  mutable std::atomic<bool> flapping{false};
  mutable std::atomic<bool> healed{false};  // Of a source that is not mapped.
  mutable std::atomic<std::uint64_t> faults{0};

 private:
  const Bytes& bytes() const { return healed ? damaged_file().pristine : damaged_file().bytes; }
  cdna::Result<void> flap() const {
    if (!flapping || cdna::test::Random(kSeed + turn_++).below(kFailOneIn) != 0) return {};
    ++faults;
    ++faults_met;
    cdna::Error error;
    error.code = cdna::Code::io;
    error.os_errno = EIO;
    error.message = "flapping";
    return error;
  }

  bool mapped_;
  mutable std::atomic<std::uint64_t> turn_{0};
};

// A call fails with io exactly if it met a fault; any other answer is judged by the caller.
bool io_as_it_must_be(const cdna::Result<void>& result, std::uint64_t met_before, bool& io) {
  io = !result && result.error().code == cdna::Code::io;
  return io == (faults_met != met_before);
}

std::string read_flaky(const cdna::Reader& reader, const Known& known, std::uint64_t begin, std::uint64_t end) {
  Bytes rows((end - begin) * known.row_bytes);
  const std::uint64_t met_before = faults_met;
  const auto result = reader.find(known.name)->read_rows(begin, end, known.dtype, rows);
  bool io = false;
  if (!io_as_it_must_be(result, met_before, io)) return "hid a fault, or made one up";
  return io ? "" : judge(known, begin, end, result, rows);
}

std::string verify_flaky(const cdna::Reader& reader, const Known& known) {
  const std::uint64_t met_before = faults_met;
  const auto result = reader.find(known.name)->verify();
  bool io = false;
  if (!io_as_it_must_be(result, met_before, io)) return "verify() hid a fault, or made one up";
  const bool good = !known.lost && std::find(known.damaged.begin(), known.damaged.end(), true) == known.damaged.end();
  return io || result.has_value() == good ? "" : "verify() is wrong";
}

void read_flaky_in_all_threads(const cdna::Reader& reader, const std::vector<Known>& tensors, std::uint64_t seed,
                               Failures& failures) {
  std::barrier start(kThreads);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      cdna::test::Random random(seed * 1000 + i);
      start.arrive_and_wait();
      for (unsigned turn = 0; turn < 3 * kReadsPerThread; ++turn) {
        const Known& known = tensors[turn < tensors.size() ? turn : random.below(tensors.size())];
        const std::uint64_t begin = random.below(known.rows);
        const std::string fault =
            turn % 10 == 9 ? verify_flaky(reader, known) : read_flaky(reader, known, begin, begin + 1);
        if (!fault.empty()) failures.add("'" + known.name + "', row " + std::to_string(begin) + " " + fault);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

TEST_CASE("concurrency: 16 threads over a flapping source: every fault is told to who met it, and to no one else") {
  CAPTURE(kSeed);
  for (const bool mapped : {true, false}) {
    Failures failures;
    auto source = std::make_unique<FlakySource>(mapped);
    const FlakySource& flaky = *source;
    const cdna::Reader reader = must(cdna::Reader::open(std::move(source)));
    flaky.flapping = true;
    read_flaky_in_all_threads(reader, damaged_file().tensors, kSeed, failures);
    failures.report();
    CHECK(flaky.faults > 10);
  }
}

TEST_CASE("concurrency: what was found damaged stays refused to all threads when the damage is gone") {
  CAPTURE(kSeed);
  Failures failures;
  auto source = std::make_unique<FlakySource>(false);
  const FlakySource& flaky = *source;
  const cdna::Reader reader = must(cdna::Reader::open(std::move(source)));
  std::vector<Known> tensors = damaged_file().tensors;
  for (const Known& known : tensors) {  // All damage is seen once.
    for (std::uint64_t row = 0; row < known.rows; row += known.rows_per_block) {
      CHECK(check_rows(reader, known, row, row + 1).empty());
    }
  }
  flaky.healed = true;
  flaky.flapping = true;
  for (Known& known : tensors) {
    if (known.name == "index damaged") known.lost = false;  // Nothing of it was kept: it is read anew.
  }
  read_flaky_in_all_threads(reader, tensors, kSeed + 1, failures);
  failures.report();
  CHECK(flaky.faults > 10);
}

// ---- fork ----

namespace {

// A reader over a file that has no name any more.
cdna::Reader open_temporary(const Bytes& bytes, cdna::Io io) {
  const std::string path =
      (std::filesystem::temp_directory_path() / ("cdna-fork-" + std::to_string(::getpid()))).string();
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  cdna::OpenOptions options;
  options.io = io;
  auto reader = cdna::Reader::open(path, options);
  std::filesystem::remove(path);
  return must(std::move(reader));
}

bool all_right(const cdna::Reader& reader) {
  for (const Known& known : damaged_file().tensors) {
    for (std::uint64_t row = 0; row < known.rows; row += 50) {
      if (!check_rows(reader, known, row, std::min(row + 50, known.rows)).empty()) return false;
    }
  }
  return true;
}

// Two processes that wait for each other.
class Gate {
 public:
  Gate() {
    if (::pipe(ends_.data()) != 0) throw std::runtime_error("no pipe");
  }
  ~Gate() {
    for (const int end : ends_) ::close(end);
  }
  void open() const {
    if (::write(ends_[1], "x", 1) != 1) std::abort();
  }
  void pass() const {
    char byte = 0;
    if (::read(ends_[0], &byte, 1) != 1) std::abort();
  }

 private:
  std::array<int, 2> ends_{};
};

int exit_code_of(pid_t child) {
  int status = 0;
  return ::waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

TEST_CASE("concurrency: a forked child reads all and closes, and the parent reads on") {
  for (const cdna::Io io : {cdna::Io::mmap, cdna::Io::pread}) {
    std::optional<cdna::Reader> reader = open_temporary(damaged_file().bytes, io);
    REQUIRE(check_rows(*reader, damaged_file().tensors[0], 0, 300).empty());  // Some blocks are known, some are not.
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      const bool right = all_right(*reader);
      reader.reset();
      ::_exit(right ? 0 : 1);
    }
    CHECK(exit_code_of(child) == 0);
    CHECK(all_right(*reader));
  }
}

TEST_CASE("concurrency: a parent closes, and its forked child reads on") {
  for (const cdna::Io io : {cdna::Io::mmap, cdna::Io::pread}) {
    std::optional<cdna::Reader> reader = open_temporary(damaged_file().bytes, io);
    REQUIRE(check_rows(*reader, damaged_file().tensors[0], 0, 300).empty());
    const Gate gate;
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      gate.pass();
      ::_exit(all_right(*reader) ? 0 : 1);
    }
    CHECK(all_right(*reader));
    reader.reset();
    gate.open();
    CHECK(exit_code_of(child) == 0);
  }
}

// ---- Work taken in order ----

namespace {

// Where and how an ordered run fails.
enum class Fault { none, make_error, take_error, make_throws, take_throws };

struct Faults {
  std::vector<Fault> at;  // By item.

  cdna::Result<void> meet(std::size_t i, Fault error, Fault thrown) const {
    if (at[i] == thrown) throw std::bad_alloc();
    if (at[i] == error) return cdna::fail(cdna::Code::io, "", "item " + std::to_string(i));
    return {};
  }
};

// What a run has done.
struct RunRecord {
  std::vector<std::size_t> taken;
  std::atomic<std::size_t> in_flight{0};
  std::atomic<std::size_t> most_in_flight{0};
  std::atomic<unsigned> takers{0};
  std::atomic<bool> two_takers{false};
  cdna::Result<void> result;
};

// Some work whose length differs from item to item, so that they are not ready in order.
void work(std::size_t i) {
  for (std::size_t turns = i * 7919 % 13; turns > 0; --turns) std::this_thread::yield();
}

void run_in_order(unsigned threads, const Faults& faults, RunRecord& record) {
  cdna::ThreadPool pool(threads);
  using Item = std::unique_ptr<std::size_t>;
  cdna::OrderedRun<Item> run(
      pool,
      [&](std::size_t i, unsigned worker) -> cdna::Result<Item> {
        const std::size_t now = ++record.in_flight;
        for (std::size_t most = record.most_in_flight; most < now;) {
          if (record.most_in_flight.compare_exchange_weak(most, now)) break;
        }
        work(i);
        if (worker >= threads) return cdna::fail(cdna::Code::bad_argument, "", "a worker that there is not");
        const auto met = faults.meet(i, Fault::make_error, Fault::make_throws);
        if (!met) return met.error();
        return std::make_unique<std::size_t>(i);
      },
      [&](std::size_t i, Item& item) -> cdna::Result<void> {
        if (++record.takers != 1) record.two_takers = true;
        work(i + 3);
        const auto met = faults.meet(i, Fault::take_error, Fault::take_throws);
        if (met && *item == i) record.taken.push_back(i);
        --record.takers;
        --record.in_flight;
        return met;
      });
  record.result = run.run(faults.at.size());
}

void check_run(unsigned threads, const Faults& faults) {
  RunRecord record;
  run_in_order(threads, faults, record);
  const auto first = std::find_if(faults.at.begin(), faults.at.end(), [](Fault fault) { return fault != Fault::none; });
  const auto count = static_cast<std::size_t>(first - faults.at.begin());
  INFO(threads << " threads, " << faults.at.size() << " items, the first fault at " << count);
  // All items before the fault, in order, each once.
  REQUIRE(record.taken.size() == count);
  for (std::size_t i = 0; i < count; ++i) REQUIRE(record.taken[i] == i);
  REQUIRE(!record.two_takers);
  // Made and not taken, or being made.
  REQUIRE(record.most_in_flight <= 2 * std::size_t{threads});
  REQUIRE(record.result.has_value() == (first == faults.at.end()));
  if (record.result) return;
  const bool thrown = *first == Fault::make_throws || *first == Fault::take_throws;
  REQUIRE(record.result.error().code == (thrown ? cdna::Code::no_memory : cdna::Code::io));
  if (!thrown) REQUIRE(record.result.error().message == "item " + std::to_string(count));
}

}  // namespace

TEST_CASE("concurrency: an ordered run takes every item once, in order, and lets no more than 2 per thread wait") {
  for (const unsigned threads : {1U, 2U, 3U, 8U}) {
    for (const std::size_t count : {0U, 1U, 2U, 7U, 100U, 2000U}) check_run(threads, {std::vector<Fault>(count)});
  }
}

TEST_CASE("concurrency: an ordered run stops at an error or bad_alloc of either side at any item") {
  constexpr std::size_t kCount = 24;
  for (const unsigned threads : {1U, 2U, 8U}) {
    for (const Fault fault : {Fault::make_error, Fault::take_error, Fault::make_throws, Fault::take_throws}) {
      for (std::size_t i = 0; i < kCount; ++i) {
        Faults faults{std::vector<Fault>(kCount)};
        faults.at[i] = fault;
        check_run(threads, faults);
      }
    }
  }
}

TEST_CASE("concurrency: of several errors an ordered run returns the first item's, whatever the threads do") {
  constexpr std::size_t kCount = 40;
  INFO("seed " << kSeed);
  cdna::test::Random random(kSeed);
  for (int round = 0; round < 300; ++round) {
    Faults faults{std::vector<Fault>(kCount)};
    const std::size_t begin = random.below(kCount);
    for (std::size_t i = begin; i < kCount; ++i) {
      if (i == begin || random.below(3) == 0) faults.at[i] = static_cast<Fault>(1 + random.below(4));
    }
    check_run(round % 2 == 0 ? 3 : 8, faults);
  }
}
