// What the reader promises: no copies, nothing hashed twice or touched needlessly, nothing allocated per block.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "cdna/fsck.hpp"
#include "libcdna/format/wire.hpp"
#include "sample_file.hpp"
#include "temporary_folder.hpp"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CDNA_COUNTS_ALLOCATIONS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define CDNA_COUNTS_ALLOCATIONS 0
#endif
#endif
#ifndef CDNA_COUNTS_ALLOCATIONS
#define CDNA_COUNTS_ALLOCATIONS 1
#endif

namespace {

// Of all threads, since the counters were last set to 0.
std::atomic<std::uint64_t> allocation_count{0};
std::atomic<std::size_t> largest_allocation_bytes{0};

}  // namespace

#if CDNA_COUNTS_ALLOCATIONS
// The allocator itself is counted, so that operator new, OpenSSL, zstd and brotli are all seen. A sanitizer has an
// allocator of its own, which must not be replaced: no counting there.
extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* memory, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);

static void count_allocation(std::size_t size) {
  allocation_count.fetch_add(1, std::memory_order_relaxed);
  std::size_t largest = largest_allocation_bytes.load(std::memory_order_relaxed);
  while (size > largest && !largest_allocation_bytes.compare_exchange_weak(largest, size, std::memory_order_relaxed)) {
  }
}

void* malloc(std::size_t size) {
  count_allocation(size);
  return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) {
  count_allocation(count * size);
  return __libc_calloc(count, size);
}
void* realloc(void* memory, std::size_t size) {
  count_allocation(size);
  return __libc_realloc(memory, size);
}
void* memalign(std::size_t alignment, std::size_t size) {
  count_allocation(size);
  return __libc_memalign(alignment, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) {
  count_allocation(size);
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** out, std::size_t alignment, std::size_t size) {
  count_allocation(size);
  *out = __libc_memalign(alignment, size);
  return *out == nullptr ? ENOMEM : 0;
}
}
#endif

namespace {

using cdna::test::must;
using cdna::test::Part;
using cdna::test::reader_of;
using cdna::test::Region;
using cdna::test::save_file;
using cdna::test::TemporaryFolder;
using Bytes = std::vector<std::byte>;
namespace fs = std::filesystem;

constexpr std::uint64_t kSeed = 4711;

Bytes load_file(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

cdna::Reader open_memory(const Bytes& file, bool mapped = true, const cdna::OpenOptions& options = {}) {
  return must(cdna::Reader::open(cdna::memory_source(file, mapped), options));
}

// 1 MiB and 300 KiB of U8 in blocks of 256 KiB, one plane of each codec, and codebook tensors raw and compressed.
const Bytes& blocks_file() {
  static const Bytes file = [] {
    cdna::test::Random random(kSeed);
    Bytes half = random.bytes(1300 << 10);
    for (std::size_t i = 0; i < half.size(); i += 2) half[i] = std::byte{7};
    const Bytes noise = random.bytes(1300 << 10);
    const Bytes weights = cdna::test::bytes_of_values(random.weights(1300 << 8));
    const Bytes in_planes = cdna::test::bf16_of(random.weights(1300 << 10));
    std::vector<float> few = random.weights(1300 << 8);  // With few values codes compress.
    for (float& value : few) value = value < -0.5F ? -1.0F : value < 0.75F ? 0.25F : 1.0F;
    const Bytes levels = cdna::test::bytes_of_values(few);
    return cdna::test::write_file({}, [&](cdna::Writer& writer) {
      const auto exact = [&](const char* name, cdna::Codec codec, const Bytes& data) {
        must(writer.add_exact({name, cdna::DType::u8, {1300, 1024}, cdna::Role::embedding, codec}, reader_of(data)));
      };
      const auto codebook = [&](const char* name, cdna::Codec codec, const Bytes& data) {
        must(writer.add_codebook({name, cdna::DType::f32, {650, 512}, cdna::Role::embedding, codec}, {},
                                 reader_of(data)));
      };
      exact("exact.raw", cdna::Codec::raw, noise);
      exact("exact.zstd", cdna::Codec::zstd, half);
      exact("exact.brotli", cdna::Codec::brotli, half);
      must(writer.add_exact({"exact.planes",
                             cdna::DType::bf16,
                             {1300, 1024},
                             cdna::Role::embedding,
                             cdna::Codec::zstd,
                             cdna::Filter::byte_planes},
                            reader_of(in_planes)));
      codebook("codebook.raw", cdna::Codec::raw, weights);
      codebook("codebook.zstd", cdna::Codec::zstd, levels);
      codebook("codebook.brotli", cdna::Codec::brotli, levels);
      must(writer.add_asset("noise", "application/octet-stream", noise.size(), cdna::Codec::raw, reader_of(noise)));
    });
  }();
  return file;
}

constexpr const char* kBlockTensors[] = {"exact.raw",    "exact.zstd",    "exact.brotli",   "exact.planes",
                                         "codebook.raw", "codebook.zstd", "codebook.brotli"};

cdna::DType dtype_to_read(const cdna::Tensor& tensor) {
  return tensor.encoding() == "cdna.exact" ? tensor.dtype() : cdna::DType::f32;
}

cdna::Result<Bytes> read_rows(const cdna::Tensor& tensor, std::uint64_t begin, std::uint64_t end, cdna::DType dtype) {
  Bytes out((end - begin) * tensor.row_bytes(dtype));
  if (auto result = tensor.read_rows(begin, end, dtype, out); !result) return result.error();
  return out;
}

bool lies_within(std::span<const std::byte> part, std::span<const std::byte> whole) {
  const std::less_equal<const std::byte*> at_most;
  return at_most(whole.data(), part.data()) && at_most(part.data() + part.size(), whole.data() + whole.size());
}

Bytes slice(const Bytes& bytes, std::uint64_t begin, std::uint64_t end) {
  return {bytes.begin() + static_cast<std::ptrdiff_t>(begin), bytes.begin() + static_cast<std::ptrdiff_t>(end)};
}

}  // namespace

// ---- Zero copy ----

TEST_CASE("reader: a bad outlier is reported in its block and at that block's place") {
  const Bytes file = load_file(fs::path(CDNA_SOURCE_DIR) / "spec" / "vectors" / "bad" / "E6_second_block.cdna");
  const auto reader = cdna::Reader::open(cdna::memory_source(file));
  REQUIRE(reader);
  const cdna::Tensor tensor = *reader->find("q");
  const std::uint32_t last = tensor.plane_count() - 1;
  std::vector<std::byte> out(3 * tensor.row_bytes(cdna::DType::f32));
  const auto result = tensor.read_rows(0, 3, cdna::DType::f32, out);
  REQUIRE_FALSE(result);
  CHECK(std::string_view(result.error().rule) == "E6");
  CHECK(result.error().plane == static_cast<std::int32_t>(last));
  CHECK(result.error().block == 1);
  CHECK(result.error().offset == tensor.plane(last).offset + 64);  // Packed: the first block has 8 bytes.
}

TEST_CASE("reader: damage of a whole tensor is reported before what decoding says, as spec/format.md 16.2 has it") {
  Bytes file = load_file(fs::path(CDNA_SOURCE_DIR) / "spec" / "vectors" / "bad" / "E4_before_outliers.cdna");
  const auto rule_of_reading = [](const Bytes& bytes) -> std::string {
    const auto reader = cdna::Reader::open(cdna::memory_source(bytes));
    REQUIRE(reader);
    const cdna::Tensor tensor = reader->resolve(reader->tensor_item(0));
    std::vector<std::byte> out(tensor.rows() * tensor.row_bytes(cdna::DType::f32));
    const auto result = tensor.read_rows(0, tensor.rows(), cdna::DType::f32, out);
    return result ? "" : result.error().rule;
  };
  REQUIRE(rule_of_reading(file) == "E4");
  const auto reader = cdna::Reader::open(cdna::memory_source(file));
  const std::uint64_t codebook = reader->resolve(reader->tensor_item(0)).plane(1).offset;
  file[codebook] ^= std::byte{1};
  CHECK(rule_of_reading(file) == "B1");
}

TEST_CASE("reader: a raw block is the mapped bytes themselves") {
  const Bytes& file = blocks_file();
  const cdna::Reader reader = open_memory(file);
  CHECK(reader.trust() == cdna::Trust::zero_copy);
  const std::span<const std::byte> map = reader.source().mapping();
  for (const char* const name : {"exact.raw", "codebook.raw"}) {
    const cdna::Tensor tensor = reader.find(name).value();
    cdna::BlockRange range = must(tensor.blocks());
    std::uint64_t offset = tensor.plane(0).offset;
    std::uint64_t count = 0;
    for (const cdna::Result<cdna::Block>& block : range) {
      REQUIRE(block);
      CHECK(block->in_place);
      CHECK(block->data.data() == map.data() + offset);
      CHECK(block->number == count++);
      offset += block->data.size();
      if (!block->row_scales.empty()) CHECK(lies_within(std::as_bytes(block->row_scales), map));
      if (block->outlier_count != 0) CHECK(lies_within(block->outlier_positions, map));
    }
    CHECK(count == tensor.plane(0).block_count);
    CHECK(offset == tensor.plane(0).offset + tensor.plane(0).stored_bytes);
  }
  CHECK(reader.statistics().blocks_decoded == 0);
}

TEST_CASE("reader: a compressed block is not in place, and lies outside the map") {
  const cdna::Reader reader = open_memory(blocks_file());
  for (const char* const name : {"exact.zstd", "exact.planes", "codebook.brotli"}) {
    cdna::BlockRange range = must(reader.find(name)->blocks());
    for (const cdna::Result<cdna::Block>& block : range) {
      REQUIRE(block);
      CHECK_FALSE(block->in_place);
      CHECK_FALSE(lies_within(block->data, reader.source().mapping()));
    }
  }
}

TEST_CASE("reader: contiguous() is one pointer into the map, for raw exact tensors in zero-copy mode only") {
  const Bytes& file = blocks_file();
  const cdna::Reader reader = open_memory(file);
  const cdna::Tensor raw = reader.find("exact.raw").value();
  const auto bytes = must(raw.contiguous());
  CHECK(bytes.data() == file.data() + raw.plane(0).offset);
  CHECK(bytes.size() == 1300 << 10);
  CHECK(reader.statistics().blocks_verified == raw.block_count());
  for (const char* const name : {"exact.zstd", "exact.brotli", "exact.planes", "codebook.raw"}) {
    const auto refused = reader.find(name)->contiguous();
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == cdna::Code::bad_argument);
  }
  cdna::OpenOptions strict;
  strict.trust = cdna::Trust::strict;
  for (const cdna::Reader& other : {open_memory(file, true, strict), open_memory(file, false)}) {
    const auto refused = other.find("exact.raw")->contiguous();
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == cdna::Code::bad_argument);
  }
}

TEST_CASE("reader: contiguous() hands out nothing of a tensor with a damaged block") {
  Bytes file = blocks_file();
  file[open_memory(blocks_file()).find("exact.raw")->plane(0).offset + (300 << 10)] ^= std::byte{1};
  const auto bytes = open_memory(file).find("exact.raw")->contiguous();
  REQUIRE_FALSE(bytes);
  CHECK(std::string(bytes.error().rule) == "B1");
  CHECK(bytes.error().block == 1);
}

TEST_CASE("reader: strict mode never hands out mapped bytes, and sees what changes after open") {
  Bytes file = blocks_file();
  cdna::OpenOptions options;
  options.trust = cdna::Trust::strict;
  const cdna::Reader reader = open_memory(file, true, options);
  CHECK(reader.trust() == cdna::Trust::strict);
  for (const char* const name : kBlockTensors) {
    cdna::BlockRange range = must(reader.find(name)->blocks());
    for (const cdna::Result<cdna::Block>& block : range) {
      REQUIRE(block);
      CHECK_FALSE(block->in_place);
      CHECK_FALSE(lies_within(block->data, reader.source().mapping()));
      if (!block->row_scales.empty()) {
        CHECK_FALSE(lies_within(std::as_bytes(block->row_scales), reader.source().mapping()));
      }
      if (block->outlier_count != 0) CHECK_FALSE(lies_within(block->outlier_values, reader.source().mapping()));
    }
  }
  const cdna::Tensor tensor = reader.find("exact.raw").value();
  CHECK(read_rows(tensor, 0, 10, cdna::DType::u8).has_value());
  file[tensor.plane(0).offset] ^= std::byte{1};  // What another process might do.
  const auto rows = read_rows(tensor, 0, 10, cdna::DType::u8);
  REQUIRE_FALSE(rows);
  CHECK(std::string(rows.error().rule) == "B1");
}

TEST_CASE("reader: every use hashes the block again in strict mode") {
  cdna::OpenOptions options;
  options.trust = cdna::Trust::strict;
  const cdna::Reader reader = open_memory(blocks_file(), true, options);
  const cdna::Tensor tensor = reader.find("exact.raw").value();
  for (std::uint64_t turn = 1; turn <= 3; ++turn) {
    REQUIRE(read_rows(tensor, 0, 1, cdna::DType::u8));
    CHECK(reader.statistics().blocks_verified == turn);
  }
}

TEST_CASE("reader: a second touch hashes and reads nothing in zero-copy mode") {
  const cdna::Reader reader = open_memory(blocks_file());
  const auto touch_all = [&reader] {
    for (const char* const name : kBlockTensors) {
      const cdna::Tensor tensor = reader.find(name).value();
      REQUIRE(read_rows(tensor, 0, tensor.rows(), dtype_to_read(tensor)));
      REQUIRE(tensor.verify());  // Planes too that decoding does not need.
    }
  };
  touch_all();
  const cdna::ReadStatistics first = reader.statistics();
  CHECK(first.blocks_verified > 0);
  touch_all();
  const cdna::ReadStatistics second = reader.statistics();
  CHECK(second.blocks_verified == first.blocks_verified);
  CHECK(second.bytes_hashed == first.bytes_hashed);
  CHECK(second.bytes_read == first.bytes_read);
  CHECK(second.read_ns == first.read_ns);
  CHECK(second.verify_ns == first.verify_ns);
}

TEST_CASE("reader: statistics count what codecs make, and blocks that were verified before") {
  const cdna::Reader reader = open_memory(blocks_file());
  const cdna::Tensor raw = reader.find("exact.raw").value();
  REQUIRE(read_rows(raw, 0, raw.rows(), cdna::DType::u8));
  const cdna::ReadStatistics first = reader.statistics();
  CHECK(first.blocks_reused == 0);
  CHECK(first.blocks_decoded == 0);
  CHECK(first.bytes_decoded == 0);
  CHECK(first.decode_ns == 0);
  CHECK(first.verify_ns > 0);
  REQUIRE(read_rows(raw, 0, raw.rows(), cdna::DType::u8));
  CHECK(reader.statistics().blocks_reused == raw.block_count());
  REQUIRE(raw.verify());
  CHECK(reader.statistics().blocks_reused == 2 * raw.block_count());

  const cdna::Tensor zstd = reader.find("exact.zstd").value();
  std::uint64_t decoded_bytes = 0;
  cdna::BlockRange range = must(zstd.blocks());
  for (const cdna::Result<cdna::Block>& block : range) {
    REQUIRE(block);
    if (!block->in_place) decoded_bytes += block->data.size();
  }
  CHECK(decoded_bytes > 0);
  CHECK(reader.statistics().bytes_decoded == decoded_bytes);
  CHECK(reader.statistics().decode_ns > 0);

  cdna::OpenOptions options;
  options.trust = cdna::Trust::strict;
  const cdna::Reader strict = open_memory(blocks_file(), true, options);
  for (int turn = 0; turn < 2; ++turn) REQUIRE(strict.find("exact.raw")->verify());
  CHECK(strict.statistics().blocks_reused == 0);
}

TEST_CASE("reader: the time of reading is the time that the source takes, of all threads together") {
  static constexpr std::chrono::milliseconds kEach{2};
  class SlowSource final : public cdna::Source {
   public:
    explicit SlowSource(std::atomic<std::uint64_t>& reads) : reads_(reads) {}
    std::uint64_t size_bytes() const override { return blocks_file().size(); }
    cdna::Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override {
      std::this_thread::sleep_for(kEach);
      std::copy_n(blocks_file().begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
      ++reads_;
      return {};
    }

   private:
    std::atomic<std::uint64_t>& reads_;
  };
  std::atomic<std::uint64_t> reads{0};
  const cdna::Reader reader = must(cdna::Reader::open(std::make_unique<SlowSource>(reads)));
  const auto least_ns = [&] {
    return static_cast<std::uint64_t>(std::chrono::nanoseconds(kEach).count()) * reads.load();
  };
  CHECK(reads.load() >= 3);  // Tail, footer, head.
  CHECK(reader.statistics().read_ns >= least_ns());
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back([&reader] { (void)reader.find("exact.raw")->verify().has_value(); });
  for (std::thread& thread : threads) thread.join();
  CHECK(reader.statistics().read_ns >= least_ns());
}

// ---- Row ranges ----

TEST_CASE("reader: 100 random row ranges of each tensor are slices of the whole, and touch only the covering blocks") {
  cdna::test::Random random(kSeed);
  CAPTURE(kSeed);
  const cdna::Reader whole = open_memory(blocks_file());
  for (const char* const name : kBlockTensors) {
    const cdna::Tensor reference = whole.find(name).value();
    const cdna::DType dtype = dtype_to_read(reference);
    const std::uint64_t row_bytes = reference.row_bytes(dtype);
    const Bytes all = must(read_rows(reference, 0, reference.rows(), dtype));
    const std::uint64_t rows_per_block = reference.plane(0).rows_per_block;
    REQUIRE(reference.plane(0).block_count >= 2);
    for (int turn = 0; turn < 100; ++turn) {
      std::uint64_t begin = random.below(reference.rows() + 1);
      std::uint64_t end =
          turn % 2 == 0 ? random.below(reference.rows() + 1) : std::min(begin + random.below(4), reference.rows());
      if (begin > end) std::swap(begin, end);
      INFO(name << ", rows " << begin << " to " << end);
      const cdna::Reader reader = open_memory(blocks_file(), turn % 3 != 0);
      const cdna::Tensor tensor = reader.find(name).value();
      const Bytes rows = must(read_rows(tensor, begin, end, dtype));
      REQUIRE(std::equal(rows.begin(), rows.end(), all.begin() + static_cast<std::ptrdiff_t>(begin * row_bytes)));
      const std::uint64_t covering = begin == end ? 0 : (end - 1) / rows_per_block - begin / rows_per_block + 1;
      std::uint64_t touched = covering;
      if (tensor.encoding() == "cdna.codebook") {
        touched = covering == 0 ? 1 : 2 * covering + 1 + tensor.plane(2).block_count;
      }
      REQUIRE(reader.statistics().blocks_verified == touched);
    }
  }
}

TEST_CASE("reader: blocks() hands out the covering blocks, whole") {
  const cdna::Reader reader = open_memory(blocks_file());
  const cdna::Tensor tensor = reader.find("exact.raw").value();
  const std::uint64_t rows_per_block = tensor.plane(0).rows_per_block;
  std::vector<std::uint64_t> numbers;
  cdna::BlockRange range = must(tensor.blocks(rows_per_block - 1, 2 * rows_per_block + 1));
  for (const cdna::Result<cdna::Block>& block : range) {
    REQUIRE(block);
    numbers.push_back(block->number);
    CHECK(block->row_begin == block->number * rows_per_block);
    CHECK(block->row_count == rows_per_block);
    CHECK(block->entry_begin == 0);
    CHECK(block->entry_count == 1024);
  }
  CHECK(numbers == std::vector<std::uint64_t>{0, 1, 2});
  cdna::BlockRange none = must(tensor.blocks(5, 5));
  CHECK(none.begin() == none.end());
}

TEST_CASE("reader: numbered_blocks() hands out those blocks, and touches no other") {
  for (const char* const name : {"exact.raw", "exact.zstd", "exact.brotli", "codebook.raw"}) {
    INFO(name);
    const cdna::Reader all = open_memory(blocks_file());
    const std::uint64_t count = all.find(name)->plane(0).block_count;
    REQUIRE(count > 1);
    std::vector<Bytes> expected;
    cdna::BlockRange every = must(all.find(name)->blocks());
    for (const cdna::Result<cdna::Block>& block : every) {
      REQUIRE(block);
      expected.emplace_back(block->data.begin(), block->data.end());
    }
    REQUIRE(expected.size() == count);
    for (std::uint64_t begin = 0; begin <= count; ++begin) {
      for (std::uint64_t end = begin; end <= count; ++end) {
        INFO(begin << " to " << end);
        const cdna::Reader reader = open_memory(blocks_file());
        const cdna::Tensor tensor = reader.find(name).value();
        const std::uint64_t rows_per_block = tensor.plane(0).rows_per_block;
        cdna::BlockRange range = must(tensor.numbered_blocks(begin, end));
        std::uint64_t number = begin;
        for (const cdna::Result<cdna::Block>& block : range) {
          REQUIRE(block);
          REQUIRE(block->number == number);
          CHECK(block->row_begin == number * rows_per_block);
          CHECK(std::equal(block->data.begin(), block->data.end(), expected[number].begin(), expected[number].end()));
          ++number;
        }
        CHECK(number == end);
        const bool is_exact = tensor.encoding() == "cdna.exact";  // Else: row scales, and once the codebook.
        const std::uint64_t verified = is_exact || begin == end ? end - begin : 2 * (end - begin) + 1;
        CHECK(reader.statistics().blocks_verified == verified);
      }
    }
  }
}

TEST_CASE("reader: numbered_blocks() reaches each part of rows that are cut") {
  const std::uint64_t cols = (std::uint64_t{1} << 24) + 5;
  const Bytes data = cdna::test::Random(kSeed).bytes(2 * cols);
  const Bytes file = cdna::test::write_file({}, [&](cdna::Writer& writer) {
    must(writer.add_exact({"wide", cdna::DType::u8, {2, cols}, cdna::Role::matrix}, reader_of(data)));
  });
  const cdna::Reader reader = open_memory(file);
  const cdna::Tensor tensor = reader.find("wide").value();
  const std::uint64_t count = tensor.plane(0).block_count;
  REQUIRE(count > 2);
  std::uint64_t offset = 0;
  for (std::uint64_t number = 0; number < count; ++number) {
    cdna::BlockRange range = must(tensor.numbered_blocks(number, number + 1));
    const cdna::Result<cdna::Block>& block = *range.begin();
    REQUIRE(block);
    CHECK(block->number == number);
    CHECK(block->row_begin * cols + block->entry_begin == offset);
    REQUIRE(block->data.size() <= data.size() - offset);
    CHECK(std::memcmp(block->data.data(), data.data() + offset, block->data.size()) == 0);
    offset += block->data.size();
  }
  CHECK(offset == data.size());
}

TEST_CASE(
    "reader: row ranges of every tensor of the good vectors are slices of the whole: 22 dtypes, cut rows, codebooks") {
  cdna::test::Random random(kSeed);
  CAPTURE(kSeed);
  std::vector<bool> dtypes(cdna::kDTypeLast + 1U);
  std::uint64_t tensors = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(CDNA_SOURCE_DIR) / "spec" / "vectors" / "good")) {
    if (entry.path().extension() != ".cdna") continue;
    INFO(entry.path().filename().string());
    const Bytes file = load_file(entry.path());
    const cdna::Reader reader = open_memory(file);
    for (std::uint32_t i = 0; i < reader.tensor_count(); ++i) {
      const cdna::Tensor tensor = reader.resolve(reader.tensor_item(i));
      if (!tensor.check_supported() || tensor.element_count() == 0) continue;
      const cdna::DType dtype = dtype_to_read(tensor);
      const auto all = read_rows(tensor, 0, tensor.rows(), dtype);
      if (!all && all.error().code == cdna::Code::unsupported) continue;  // U7 shows on touch.
      REQUIRE(all);
      dtypes[static_cast<std::size_t>(tensor.dtype())] = true;
      ++tensors;
      for (int turn = 0; turn < 8; ++turn) {
        const std::uint64_t begin = random.below(tensor.rows());
        const std::uint64_t end = begin + random.below(tensor.rows() - begin) + 1;
        const Bytes rows = must(read_rows(tensor, begin, end, dtype));
        REQUIRE(rows == slice(*all, begin * tensor.row_bytes(dtype), end * tensor.row_bytes(dtype)));
      }
    }
  }
  CHECK(tensors > 100);
  for (std::size_t id = 1; id < dtypes.size(); ++id) {
    INFO(cdna::name_of(static_cast<cdna::DType>(id)));
    CHECK(dtypes[id]);
  }
}

TEST_CASE("reader: tensors of all 22 dtypes come back as they were written, whole and by rows") {
  cdna::test::Random random(kSeed);
  CAPTURE(kSeed);
  std::vector<Bytes> contents;
  for (unsigned id = 1; id <= cdna::kDTypeLast; ++id) {
    contents.push_back(random.bytes(12 * 40 * cdna::bits_of(static_cast<cdna::DType>(id)) / 8));
  }
  const Bytes file = cdna::test::write_file({}, [&](cdna::Writer& writer) {
    for (unsigned id = 1; id <= cdna::kDTypeLast; ++id) {
      const auto dtype = static_cast<cdna::DType>(id);
      must(writer.add_exact({std::string(cdna::name_of(dtype)), dtype, {12, 40}, cdna::Role::matrix, cdna::Codec::raw},
                            reader_of(contents[id - 1])));
    }
  });
  const cdna::Reader reader = open_memory(file);
  for (unsigned id = 1; id <= cdna::kDTypeLast; ++id) {
    const auto dtype = static_cast<cdna::DType>(id);
    INFO(cdna::name_of(dtype));
    const cdna::Tensor tensor = reader.find(cdna::name_of(dtype)).value();
    REQUIRE(tensor.rows() == 12);
    CHECK(must(read_rows(tensor, 0, 12, dtype)) == contents[id - 1]);
    CHECK(must(read_rows(tensor, 5, 8, dtype)) ==
          slice(contents[id - 1], 5 * tensor.row_bytes(dtype), 8 * tensor.row_bytes(dtype)));
    CHECK(tensor.source_bytes() == contents[id - 1].size());
    for (const cdna::DType other : {cdna::DType::u8, cdna::DType::f64}) {
      const auto as_other = read_rows(tensor, 0, 12, other);
      const bool any_float = cdna::is_float(dtype) || (dtype >= cdna::DType::f8_e4m3 && dtype <= cdna::DType::f4);
      CHECK(as_other.has_value() == (dtype == other || (any_float && cdna::is_float(other))));
      if (!as_other) CHECK(as_other.error().code == cdna::Code::bad_argument);
    }
  }
}

TEST_CASE("reader: any range of an asset is the slice that was written") {
  const cdna::Reader reader = open_memory(blocks_file());
  const cdna::Asset asset = reader.find_asset("noise").value();
  Bytes all(asset.size_bytes());
  REQUIRE(asset.read(0, all));
  cdna::test::Random random(kSeed);
  CAPTURE(kSeed);
  for (int turn = 0; turn < 200; ++turn) {
    const std::uint64_t begin = random.below(all.size() + 1);
    Bytes part(random.below(all.size() - begin + 1));
    REQUIRE(asset.read(begin, part));
    REQUIRE(part == slice(all, begin, begin + part.size()));
  }
}

// ---- Allocation ----

#if CDNA_COUNTS_ALLOCATIONS
namespace {

// Allocations while stepping from block `first` to block `last`.
std::uint64_t allocations_of_steps(const cdna::Tensor& tensor, std::uint64_t first, std::uint64_t last) {
  cdna::BlockRange range = must(tensor.blocks());
  auto block = range.begin();
  for (std::uint64_t i = 0; i < first; ++i) ++block;
  std::uint64_t failed = 0;
  allocation_count = 0;
  for (std::uint64_t i = first; i < last; ++i) {
    ++block;
    failed += (*block).has_value() ? 0U : 1U;
  }
  const std::uint64_t allocations = allocation_count;
  REQUIRE(failed == 0);
  return allocations;
}

}  // namespace
#endif

TEST_CASE("reader: stepping over raw and zstd blocks allocates nothing") {
#if CDNA_COUNTS_ALLOCATIONS
  for (const bool mapped : {true, false}) {
    const cdna::Reader reader = open_memory(blocks_file(), mapped);
    for (const char* const name : {"exact.raw", "exact.zstd", "exact.planes", "codebook.raw", "codebook.zstd"}) {
      INFO(name << (mapped ? ", mapped" : ", read"));
      const cdna::Tensor tensor = reader.find(name).value();
      REQUIRE(tensor.plane(0).block_count >= 2);
      // The first block makes the contexts of hashes and codecs.
      CHECK(allocations_of_steps(tensor, 0, tensor.plane(0).block_count - 1) == 0);
    }
  }
#else
  WARN("allocations are not counted: a sanitizer has replaced the allocator");
#endif
}

TEST_CASE("reader: stepping over brotli blocks of one size allocates nothing after the first four") {
#if CDNA_COUNTS_ALLOCATIONS
  cdna::test::Random random(kSeed);
  CAPTURE(kSeed);
  Bytes half = random.bytes(12 << 18);
  for (std::size_t i = 0; i < half.size(); i += 2) half[i] = std::byte{7};
  const Bytes file = cdna::test::write_file({}, [&](cdna::Writer& writer) {
    must(writer.add_exact({"brotli", cdna::DType::u8, {3072, 1024}, cdna::Role::embedding, cdna::Codec::brotli},
                          reader_of(half)));
  });
  for (const bool mapped : {true, false}) {
    const cdna::Reader reader = open_memory(file, mapped);
    REQUIRE(reader.find("brotli")->plane(0).block_count == 12);
    REQUIRE(reader.find("brotli")->plane(0).codecs == 4);
    CHECK(allocations_of_steps(*reader.find("brotli"), 3, 11) == 0);
  }
#else
  WARN("allocations are not counted: a sanitizer has replaced the allocator");
#endif
}

TEST_CASE("reader: looking up a tensor and asking for its properties allocates nothing") {
#if CDNA_COUNTS_ALLOCATIONS
  const cdna::Reader reader = open_memory(blocks_file());
  allocation_count = 0;
  const auto tensor = reader.find("codebook.raw");
  const auto missing = reader.find("codebook.rax");
  const std::uint64_t sum =
      tensor->rows() + tensor->cols() + tensor->name().size() + tensor->plane(1).offset + tensor->stored_bytes();
  const std::uint64_t allocations = allocation_count;
  CHECK(allocations == 0);
  CHECK(sum > 0);
  CHECK_FALSE(missing);
#else
  WARN("allocations are not counted: a sanitizer has replaced the allocator");
#endif
}

// ---- Damage ----

TEST_CASE("reader: one damaged block leaves the others readable, and its error says where it is") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.cdna";
  Bytes file = blocks_file();
  const auto regions = cdna::test::regions_of(file);
  const cdna::Reader intact_reader = open_memory(blocks_file());
  for (const char* const name : {"exact.raw", "exact.zstd", "codebook.raw"}) {
    const cdna::Tensor intact = intact_reader.find(name).value();
    const std::uint32_t number = intact.number();
    std::vector<Region> blocks;
    for (const Region& region : regions) {
      if (region.part == Part::block && region.item == number && blocks.size() < intact.plane(0).block_count) {
        blocks.push_back(region);
      }
    }
    REQUIRE(blocks.size() >= 2);
    const std::uint64_t at = (blocks[1].begin + blocks[1].end) / 2;
    file[at] ^= std::byte{0x10};
    save_file(path, file);
    file[at] ^= std::byte{0x10};
    for (const cdna::Io io : {cdna::Io::mmap, cdna::Io::pread}) {
      cdna::OpenOptions options;
      options.io = io;
      const cdna::Reader reader = must(cdna::Reader::open(path, options));
      const cdna::Tensor tensor = reader.find(name).value();
      for (int turn = 0; turn < 2; ++turn) {  // Failed once, failed always.
        cdna::BlockRange range = must(tensor.blocks());
        std::uint64_t block_number = 0;
        for (const cdna::Result<cdna::Block>& block : range) {
          INFO(name << ", block " << block_number);
          REQUIRE(block.has_value() == (block_number != 1));
          if (!block) {
            const cdna::Error& error = block.error();
            CHECK(error.code == cdna::Code::corrupt);
            CHECK(std::string(error.rule) == "B1");
            CHECK(error.file == path);
            CHECK(error.item == name);
            CHECK(error.plane == 0);
            CHECK(error.block == 1);
            CHECK(error.offset == blocks[1].begin);
            CHECK(error.describe() == path + ", '" + name + "', plane 0, block 1, at byte " +
                                          std::to_string(blocks[1].begin) +
                                          ": the block does not match its digest [corrupt B1]");
          }
          ++block_number;
        }
        CHECK(block_number == tensor.plane(0).block_count);
      }
      const std::uint64_t hashed = reader.statistics().blocks_verified;
      const auto again =
          read_rows(tensor, tensor.plane(0).rows_per_block, tensor.plane(0).rows_per_block + 1, dtype_to_read(tensor));
      REQUIRE_FALSE(again);
      CHECK(again.error().offset == blocks[1].begin);
      // Codebook tensors: the codebook is now fetched for the first time, because read_rows() wants values.
      const std::uint64_t codebooks = tensor.encoding() == "cdna.codebook" ? 1 : 0;
      CHECK(reader.statistics().blocks_verified == hashed + codebooks);
      for (const char* const other : kBlockTensors) {
        if (std::string_view(other) != name) CHECK(reader.find(other)->verify().has_value());
      }
    }
  }
}

TEST_CASE("reader: a block that has failed is not believed again when its bytes come back") {
  Bytes file = blocks_file();
  const cdna::Reader reader = open_memory(file);
  const cdna::Tensor tensor = reader.find("exact.raw").value();
  const std::uint64_t at = tensor.plane(0).offset + 5;
  file[at] ^= std::byte{1};
  REQUIRE_FALSE(read_rows(tensor, 0, 1, cdna::DType::u8));
  file[at] ^= std::byte{1};
  const auto again = read_rows(tensor, 0, 1, cdna::DType::u8);
  REQUIRE_FALSE(again);
  CHECK(std::string(again.error().rule) == "B1");
  CHECK_FALSE(tensor.verify());
  CHECK(open_memory(file).find("exact.raw")->verify().has_value());
}

TEST_CASE("reader: a damaged index takes its item with it and no other") {
  Bytes file = blocks_file();
  const auto regions = cdna::test::regions_of(file);
  const auto index =
      std::find_if(regions.begin(), regions.end(), [](const Region& region) { return region.part == Part::index; });
  REQUIRE(index->item == 0);
  file[index->begin + 33] ^= std::byte{4};
  const cdna::Reader reader = open_memory(file);
  const auto blocks = reader.find("exact.raw")->blocks();
  REQUIRE_FALSE(blocks);
  CHECK(std::string(blocks.error().rule) == "X1");
  CHECK(blocks.error().item == "exact.raw");
  CHECK(blocks.error().offset == index->begin);
  CHECK(reader.find("exact.zstd")->verify().has_value());
}

// ---- Limits ----

namespace {

// Notes the largest read.
class MeasuringSource final : public cdna::Source {
 public:
  MeasuringSource(const Bytes& file, std::uint64_t& largest) : file_(file), largest_(largest) {}
  std::uint64_t size_bytes() const override { return file_.size(); }
  cdna::Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    largest_ = std::max<std::uint64_t>(largest_, out.size());
    std::copy_n(file_.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
    return {};
  }

 private:
  const Bytes& file_;
  std::uint64_t& largest_;
};

}  // namespace

TEST_CASE("reader: T13 and T14 hold the caller's limits before the footer is read") {
  const Bytes file = load_file(fs::path(CDNA_SOURCE_DIR) / "spec" / "vectors" / "good" / "many_items.cdna");
  const cdna::Reader reader = open_memory(file);
  const auto refusal = [&file](const cdna::Limits& limits) -> std::string {
    cdna::OpenOptions options;
    options.limits = limits;
    std::uint64_t largest_read = 0;
    allocation_count = 0;
    largest_allocation_bytes = 0;
    const auto opened = cdna::Reader::open(std::make_unique<MeasuringSource>(file, largest_read), options);
    if (opened) return "";
    CHECK(opened.error().code == cdna::Code::limit);
    CHECK(largest_read == 256);
    CHECK(largest_allocation_bytes < 4096);
    return opened.error().rule;
  };
  CHECK(reader.footer_bytes() > 4096);
  cdna::Limits limits;
  limits.footer_bytes_max = reader.footer_bytes();
  limits.items_max = reader.item_count();
  CHECK(refusal(limits) == "");
  limits.footer_bytes_max = reader.footer_bytes() - 1;
  CHECK(refusal(limits) == "T13");
  limits.items_max = reader.item_count() - 1;
  CHECK(refusal(limits) == "T13");
  limits.footer_bytes_max = reader.footer_bytes();
  CHECK(refusal(limits) == "T14");
}

TEST_CASE("reader: a limit on decoded bytes stops a small file that decodes to 32 MiB before a buffer is made") {
  const Bytes zeros(32 << 20);
  const Bytes file = cdna::test::write_file({}, [&](cdna::Writer& writer) {
    must(writer.add_exact({"bomb", cdna::DType::u8, {2, 16 << 20}, cdna::Role::matrix, cdna::Codec::zstd},
                          reader_of(zeros)));
  });
  CHECK(file.size() < 16 << 10);
  cdna::OpenOptions options;
  options.limits.tensor_decoded_bytes_max = (32 << 20) - 1;
  const cdna::Reader reader = open_memory(file, true, options);
  const cdna::Tensor tensor = reader.find("bomb").value();
  largest_allocation_bytes = 0;
  const auto blocks = tensor.blocks();
  const std::size_t largest = largest_allocation_bytes;
  REQUIRE_FALSE(blocks);
  CHECK(blocks.error().code == cdna::Code::limit);
  CHECK(std::string(blocks.error().rule).empty());
  CHECK(blocks.error().item == "bomb");
  CHECK(largest < 4096);
  CHECK_FALSE(tensor.verify());
  CHECK(reader.statistics().blocks_verified == 0);
  options.limits.tensor_decoded_bytes_max = 32 << 20;
  CHECK(open_memory(file, true, options).find("bomb")->blocks().has_value());
}

TEST_CASE("reader: T4 another root than the expected one is a mismatch that names both") {
  const Bytes& file = blocks_file();
  cdna::OpenOptions options;
  options.expected_root = open_memory(file).root();
  CHECK(cdna::Reader::open(cdna::memory_source(file), options).has_value());
  const std::string found = cdna::to_hex(*options.expected_root);
  (*options.expected_root)[31] ^= std::byte{1};
  const auto refused = cdna::Reader::open(cdna::memory_source(file), options);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == cdna::Code::root_mismatch);
  CHECK(std::string(refused.error().rule) == "T4");
  CHECK(refused.error().message.find(found) != std::string::npos);
  CHECK(refused.error().message.find(cdna::to_hex(*options.expected_root)) != std::string::npos);
}

// ---- Names ----

TEST_CASE("reader: find() leads aliases to their tensor, keeps assets apart, and misses what is not there") {
  const Bytes file = cdna::test::make_sample();
  const cdna::Reader reader = open_memory(file);
  const cdna::Tensor tensor = reader.find("model.embed_tokens.weight").value();
  CHECK(reader.find("lm_head.weight")->number() == tensor.number());
  CHECK_FALSE(reader.find("lm_head"));
  CHECK_FALSE(reader.find(""));
  CHECK_FALSE(reader.find("config.json"));
  CHECK_FALSE(reader.find("metadata"));
  CHECK(reader.find_asset("config.json")->media_type() == "application/json");
  CHECK_FALSE(reader.find_asset("metadata"));
  CHECK_FALSE(reader.find_asset("temperature"));
  std::vector<std::string> names;
  for (std::uint32_t i = 0; i < reader.tensor_count(); ++i) {
    const cdna::Item item = reader.tensor_item(i);
    names.emplace_back(item.name());
    CHECK(reader.find(item.name())->number() == reader.resolve(item).number());
  }
  CHECK(names.size() == 13);
  CHECK(std::is_sorted(names.begin(), names.end()));
  const cdna::Tensor scalar = reader.find("temperature").value();
  CHECK((scalar.rows() == 1 && scalar.cols() == 1 && scalar.shape().empty()));
  const cdna::Tensor nothing = reader.find("nothing").value();
  CHECK(must(read_rows(nothing, 0, nothing.rows(), cdna::DType::f16)).empty());
}

TEST_CASE("reader: a reader that has been copied outlives the first") {
  const Bytes file = cdna::test::make_small_sample();
  auto first = std::make_unique<cdna::Reader>(open_memory(file));
  const cdna::Tensor tensor = first->find("a.weight").value();
  const cdna::Reader second = *first;
  first.reset();
  CHECK(tensor.verify().has_value());
}

TEST_CASE("reader: metadata of every type comes back as it was written") {
  const cdna::Metadata written{{"a bool", false},
                               {"b bytes", Bytes{std::byte{0}, std::byte{255}}},
                               {"c f64", 0.1},
                               {"d i64", std::numeric_limits<std::int64_t>::min()},
                               {"e json", cdna::JsonText{"[1, 2]"}},
                               {"f null", std::monostate{}},
                               {"g string", std::string("\xF0\x9F\x90\xA8")},
                               {"h u64", std::numeric_limits<std::uint64_t>::max()},
                               {"i empty", std::string()},
                               {"cdna.writer", std::string("a test")}};
  const Bytes file = cdna::test::write_file(
      {}, [](cdna::Writer&) {}, written);
  CHECK(must(open_memory(file).metadata()) == written);
}

TEST_CASE("reader: a file without metadata has empty metadata") {
  const Bytes file = load_file(fs::path(CDNA_SOURCE_DIR) / "spec" / "vectors" / "good" / "minimal.cdna");
  CHECK(must(open_memory(file).metadata()).empty());
}

TEST_CASE("reader: names that would act on a terminal are escaped in errors") {
  const std::string name =
      "weight\xE2\x80\xAEgpj\\";  // U+202E turns the reading direction; the format allows it in names.
  Bytes file = cdna::test::write_file({}, [&](cdna::Writer& writer) {
    must(writer.add_exact({name, cdna::DType::u8, {3}, cdna::Role::other, cdna::Codec::raw},
                          reader_of({std::byte{1}, std::byte{2}, std::byte{3}})));
  });
  const std::uint64_t at = open_memory(file).find(name)->plane(0).offset;
  file[at] ^= std::byte{1};
  const TemporaryFolder folder;
  const std::string path = folder / "m\x1B[2J\n.cdna";
  save_file(path, file);
  const auto result = must(cdna::Reader::open(path)).find(name)->verify();
  REQUIRE_FALSE(result);
  CHECK(result.error().item == name);
  CHECK(result.error().file == path);
  CHECK(result.error().describe() ==
        folder.path().string() + "/m\\x1b[2J\\x0a.cdna, 'weight\\xe2\\x80\\xaegpj\\\\', plane 0, block 0, at byte " +
            std::to_string(at) + ": the block does not match its digest [corrupt B1]");
}

// ---- Files ----

TEST_CASE("reader: mapped and read files give the same bytes, and say why they are mapped or read") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.cdna";
  const Bytes file = cdna::test::make_sample();
  save_file(path, file);
  std::vector<std::vector<Bytes>> contents;
  for (const cdna::Io io : {cdna::Io::automatic, cdna::Io::mmap, cdna::Io::pread}) {
    cdna::OpenOptions options;
    options.io = io;
    const cdna::Reader reader = must(cdna::Reader::open(path, options));
    CHECK(reader.source().name() == path);
    CHECK_FALSE(reader.source().reason().empty());
    if (io == cdna::Io::mmap) CHECK(reader.source().backend() == "mmap");
    if (io == cdna::Io::pread) CHECK(reader.source().backend() == "pread");
    CHECK((reader.trust() == cdna::Trust::zero_copy) == (reader.source().backend() == "mmap"));
    contents.emplace_back();
    for (std::uint32_t item = 0; item < reader.item_count(); ++item) {
      contents.back().push_back(must(cdna::test::read_item(reader, item)));
    }
  }
  CHECK(contents[0] == contents[1]);
  CHECK(contents[0] == contents[2]);
}

TEST_CASE("reader: a file that another process truncates is an I/O error at first touch, not a signal") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.cdna";
  save_file(path, blocks_file());
  for (const cdna::Io io : {cdna::Io::mmap, cdna::Io::pread}) {
    save_file(path, blocks_file());
    cdna::OpenOptions options;
    options.io = io;
    const cdna::Reader reader = must(cdna::Reader::open(path, options));
    const cdna::Tensor tensor = reader.find("exact.raw").value();
    REQUIRE(read_rows(tensor, 0, 1, cdna::DType::u8));
    REQUIRE(::truncate(path.c_str(), 4096 + (300 << 10)) == 0);
    const auto rows = read_rows(tensor, 1299, 1300, cdna::DType::u8);
    REQUIRE_FALSE(rows);
    CHECK(rows.error().code == cdna::Code::io);
    CHECK(rows.error().file == path);
  }
}

TEST_CASE("reader: bytes at odd addresses decode to the same") {
  const Bytes file = cdna::test::make_sample();
  const cdna::Reader reference = open_memory(file);
  for (std::size_t shift = 1; shift < 8; ++shift) {
    Bytes moved(file.size() + shift);
    std::copy(file.begin(), file.end(), moved.begin() + static_cast<std::ptrdiff_t>(shift));
    for (const bool mapped : {true, false}) {
      const cdna::Reader reader =
          must(cdna::Reader::open(cdna::memory_source(std::span<const std::byte>(moved).subspan(shift), mapped)));
      for (std::uint32_t item = 0; item < reader.item_count(); ++item) {
        INFO("shift " << shift << ", item " << item);
        REQUIRE(must(cdna::test::read_item(reader, item)) == must(cdna::test::read_item(reference, item)));
      }
    }
  }
}

TEST_CASE("reader: what is not a readable regular file is refused without waiting") {
  const TemporaryFolder folder;
  const auto error_of = [](const fs::path& path) {
    const auto reader = cdna::Reader::open(path.string());
    REQUIRE_FALSE(reader);
    CHECK(reader.error().file == path.string());
    return reader.error();
  };
  CHECK(error_of(folder / "missing").code == cdna::Code::not_found);
  CHECK(error_of(folder.path()).code == cdna::Code::bad_argument);
  CHECK(error_of("/dev/null").code == cdna::Code::bad_argument);
  const fs::path fifo = folder / "fifo";
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  CHECK(error_of(fifo).code == cdna::Code::bad_argument);
  const fs::path empty = folder / "empty";
  save_file(empty, {});
  CHECK(std::string(error_of(empty).rule) == "T1");
  const fs::path loop = folder / "loop";
  fs::create_symlink(loop, loop);
  const cdna::Error looped = error_of(loop);
  CHECK(looped.code == cdna::Code::io);
  CHECK(looped.os_errno == ELOOP);
}

namespace {

// Permission that even root does not have.
class ForbiddingFileSystem final : public cdna::FileSystem {
 public:
  int openat(int, const char*, int, mode_t) override { return -EACCES; }
};

}  // namespace

TEST_CASE("reader: a file that may not be read is an I/O error with its errno") {
  ForbiddingFileSystem file_system;
  cdna::OpenOptions options;
  options.file_system = &file_system;
  const auto reader = cdna::Reader::open("secret.cdna", options);
  REQUIRE_FALSE(reader);
  CHECK(reader.error().code == cdna::Code::io);
  CHECK(reader.error().os_errno == EACCES);
  CHECK(reader.error().describe() == "secret.cdna: cannot open: Permission denied [io]");
}
