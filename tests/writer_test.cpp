// Tests of the writer: exact round trips, the same bytes on every way, statistics, block sizes, errors, bounded memory.
#include "cdna/writer.hpp"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "case_stride.hpp"
#include "cdna/fsck.hpp"
#include "cdna/reader.hpp"
#include "libcdna/io/spool.hpp"

#if defined(__SANITIZE_ADDRESS__)
#define CDNA_UNDER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CDNA_UNDER_ASAN 1
#endif
#endif

using namespace cdna;

namespace {

using Bytes = std::vector<std::byte>;

constexpr std::uint64_t kSeed = 20240607;
constexpr std::array kCodecs{Codec::raw, Codec::zstd, Codec::brotli};
constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

// SplitMix64: the same numbers on every machine.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    state_ += 0x9E3779B97F4A7C15U;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
  }
  std::uint64_t below(std::uint64_t end) { return next() % end; }
  // In (-1, 1), with 53 random bits.
  double signed_unit() { return static_cast<double>(static_cast<std::int64_t>(next()) >> 10) * 0x1p-53; }

 private:
  std::uint64_t state_;
};

// Half noise, half constant runs, so that a codec gains on some blocks and not on others.
Bytes mixed_bytes(std::uint64_t seed, std::size_t size) {
  Random random(seed);
  Bytes bytes(size);
  for (std::size_t begin = 0; begin < size;) {
    const std::size_t end = std::min(size, begin + 1 + random.below(600'000));
    const bool noise = random.below(2) == 0;
    const auto constant = static_cast<std::byte>(random.next());
    for (std::size_t i = begin; i < end; ++i) bytes[i] = noise ? static_cast<std::byte>(random.next()) : constant;
    begin = end;
  }
  return bytes;
}

// Values that are dense around 0 with rare large ones, as weights are; written in the float type `dtype`.
Bytes weights(std::uint64_t seed, DType dtype, std::size_t count) {
  Random random(seed);
  Bytes bytes(count * bits_of(dtype) / 8);
  for (std::size_t i = 0; i < count; ++i) {
    double value = random.signed_unit() * random.signed_unit() * random.signed_unit();
    if (random.below(500) == 0) value *= 20;
    const auto narrow = static_cast<float>(value);
    std::uint32_t bits = 0;
    std::memcpy(&bits, &narrow, sizeof bits);
    const auto upper = static_cast<std::uint16_t>(bits >> 16);  // Truncated to BF16.
    if (dtype == DType::f64) std::memcpy(&bytes[8 * i], &value, 8);
    if (dtype == DType::f32) std::memcpy(&bytes[4 * i], &narrow, 4);
    if (dtype == DType::bf16) std::memcpy(&bytes[2 * i], &upper, 2);
    // F16 of exponent -14..0, any fraction: enough to be a finite weight.
    const auto half = static_cast<std::uint16_t>((random.next() & 0x83FFU) | ((1 + random.below(14)) << 10));
    if (dtype == DType::f16) std::memcpy(&bytes[2 * i], &half, 2);
  }
  return bytes;
}

ByteReader reader_of(const Bytes& bytes) {
  return [&bytes](std::uint64_t offset, std::span<std::byte> out) -> Result<void> {
    if (offset > bytes.size() || out.size() > bytes.size() - offset) {
      Error error;
      error.code = Code::io;
      error.message = "the writer read past the end of the tensor";
      return error;
    }
    std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
    return {};
  };
}

// What went wrong, for a failing CHECK.
template <class T>
std::string why(const Result<T>& result) {
  return result ? "no error" : result.error().describe();
}

template <class T>
T must(Result<T> result) {
  INFO(why(result));
  REQUIRE(result.has_value());
  return *std::move(result);
}

void must(const Result<void>& result) {
  INFO(why(result));
  REQUIRE(result.has_value());
}

TensorSpec spec_of(std::string name, DType dtype, std::vector<std::uint64_t> shape, Codec codec = Codec::raw,
                   Role role = Role::other) {
  return {std::move(name), dtype, std::move(shape), role, codec};
}

// A whole file in memory; `fill` adds the items.
template <class Fill>
Bytes file_of(const WriterOptions& options, const Fill& fill) {
  Bytes out;
  Writer writer = must(Writer::create(memory_sink(out), options));
  fill(writer);
  must(writer.finish());
  return out;
}

Reader open_bytes(const Bytes& file, bool mapped = true) { return must(Reader::open(memory_source(file, mapped))); }

void check_deep(const Bytes& file) {
  FsckOptions options;
  options.level = FsckLevel::deep;
  const FsckReport report = fsck(memory_source(file), options);
  for (const FsckProblem& problem : report.problems) UNSCOPED_INFO(problem.error.describe());
  CHECK(report.complete);
  CHECK(report.valid);
}

Bytes read_whole(const Tensor& tensor, DType dtype) {
  Bytes out(tensor.rows() * tensor.row_bytes(dtype));
  must(tensor.read_rows(0, tensor.rows(), dtype, out));
  return out;
}

template <class T>
std::vector<T> values_of(const Bytes& bytes) {
  std::vector<T> out(bytes.size() / sizeof(T));
  if (!bytes.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

std::uint64_t element_count(std::span<const std::uint64_t> shape) {
  std::uint64_t count = 1;
  for (const std::uint64_t dim : shape) count *= dim;
  return count;
}

// Bytes of a packed tensor: sub-byte elements share bytes, and the unused high bits of the last one are zero.
Bytes source_bytes(std::uint64_t seed, DType dtype, std::span<const std::uint64_t> shape) {
  const std::uint64_t bits = element_count(shape) * bits_of(dtype);
  Bytes bytes = mixed_bytes(seed, (bits + 7) / 8);
  if (bits % 8 != 0) bytes.back() &= static_cast<std::byte>((1U << bits % 8) - 1);
  return bytes;
}

std::vector<DType> all_dtypes() {
  std::vector<DType> dtypes;
  for (std::uint8_t id = 1; id <= kDTypeLast; ++id) dtypes.push_back(static_cast<DType>(id));
  return dtypes;
}

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = std::filesystem::temp_directory_path() / "cdna-writer-XXXXXX";
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  std::string path(const std::string& name) const { return path_ / name; }
  std::size_t entry_count() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(path_), {}));
  }

 private:
  std::filesystem::path path_;
};

Bytes load_file(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

// Takes bytes and forgets them, failing from the write number `fail_at` on.
class NullSink final : public Sink {
 public:
  explicit NullSink(std::uint64_t fail_at = ~std::uint64_t{0}, bool* committed = nullptr)
      : fail_at_(fail_at), committed_(committed) {}
  Result<void> write(std::span<const std::byte>) override {
    if (writes_++ < fail_at_) return {};
    Error error;
    error.code = Code::io;
    error.os_errno = ENOSPC;
    error.message = "full";
    return error;
  }
  Result<void> commit() override {
    if (committed_ != nullptr) *committed_ = true;
    return {};
  }

 private:
  std::uint64_t fail_at_;
  std::uint64_t writes_ = 0;
  bool* committed_;
};

// A file with everything a writer can make, over several blocks per tensor.
void fill_everything(Writer& writer) {
  const bool small = test::CaseStride().passes_over();  // Two blocks per tensor at least.
  const std::uint64_t part = small ? 5 : 1;
  const std::uint64_t coded_rows = small ? 1250 : 2500;
  const Bytes exact = mixed_bytes(kSeed + 1, 5 * kMiB / part + 12);
  const Bytes rows = mixed_bytes(kSeed + 2, 3000 / part * 1001);
  for (const Codec codec : kCodecs) {
    const std::string suffix(name_of(codec));
    must(writer.add_exact(spec_of("exact." + suffix, DType::f32, {exact.size() / 4}, codec), reader_of(exact)));
    must(writer.add_exact(spec_of("rows." + suffix, DType::u8, {3000 / part, 1001}, codec, Role::embedding),
                          reader_of(rows)));
  }
  for (const DType dtype : {DType::f16, DType::bf16, DType::f32, DType::f64}) {
    const Bytes source = weights(kSeed + 3, dtype, coded_rows * 1000);
    const Codec codec = dtype == DType::f16 ? Codec::raw : dtype == DType::f32 ? Codec::brotli : Codec::zstd;
    must(writer.add_codebook(spec_of("code." + std::string(name_of(dtype)), dtype, {coded_rows, 1000}, codec), {},
                             reader_of(source)));
  }
  must(writer.add_alias("alias", 0));
  must(writer.add_asset("asset", "application/octet-stream", rows.size(), Codec::zstd, reader_of(rows)));
}

}  // namespace

TEST_CASE("writer: an exact tensor of every dtype and shape comes back bit for bit, with every codec") {
  INFO("seed " << kSeed);
  const std::vector<std::vector<std::uint64_t>> shapes{{},
                                                       {0},
                                                       {1},
                                                       {7},
                                                       {0, 4},
                                                       {4, 0},
                                                       {3, 5},
                                                       {33, 127},
                                                       {2, 3, 64},
                                                       {5, 0, 64},
                                                       {3, 5, 7},
                                                       {2, 1, 2, 3, 1, 2, 2, 3},
                                                       {1, 1, 1, 1, 1, 1, 1, 64},
                                                       {301, 999},
                                                       {1, 100'001}};
  for (const Codec codec : kCodecs) {
    std::vector<Bytes> sources;
    const Bytes file = file_of({}, [&](Writer& writer) {
      for (const DType dtype : all_dtypes()) {
        for (const auto& shape : shapes) {
          const std::string name = std::string(name_of(dtype)) + "." + std::to_string(sources.size());
          sources.push_back(source_bytes(kSeed + sources.size(), dtype, shape));
          CHECK(must(writer.add_exact(spec_of(name, dtype, shape, codec), reader_of(sources.back()))) ==
                sources.size() - 1);
        }
      }
    });
    check_deep(file);
    std::uint32_t compressed = 0;
    for (const bool mapped : {true, false}) {
      const Reader reader = open_bytes(file, mapped);
      REQUIRE(reader.item_count() == sources.size() + 1);  // And the metadata.
      for (std::uint32_t i = 0; i < sources.size(); ++i) {
        const Tensor tensor = reader.resolve(reader.item(i));
        INFO(tensor.name() << " with codec " << name_of(codec));
        const auto& shape = shapes[i % shapes.size()];
        CHECK(std::vector<std::uint64_t>(tensor.shape().begin(), tensor.shape().end()) == shape);
        CHECK(tensor.dtype() == all_dtypes()[i / shapes.size()]);
        CHECK(tensor.source_bytes() == sources[i].size());
        CHECK((read_whole(tensor, tensor.dtype()) == sources[i]));
        CHECK(tensor.sum_squares() == 0);
        CHECK(tensor.max_abs_error() == 0);
        compressed += tensor.plane(0).codecs >> 1 != 0;
        const bool contiguous = mapped && codec == Codec::raw;
        CHECK((contiguous ? Bytes(must(tensor.contiguous()).begin(), must(tensor.contiguous()).end()) == sources[i]
                          : true));
      }
    }
    CHECK((compressed > 0) == (codec != Codec::raw));
  }
}

TEST_CASE("writer: rows beyond 16 MiB are cut every 2^20 entries and come back bit for bit") {
  INFO("seed " << kSeed);
  struct Giant {
    DType dtype;
    std::uint64_t rows;
    std::uint64_t cols;
    std::uint64_t blocks_per_row;
  };
  test::CaseStride stride;
  // One entry or byte beyond 16 MiB per row, and two whole cuts more than that.
  for (const Giant& giant : {Giant{DType::u8, 2, 16 * kMiB + 1, 17}, Giant{DType::f64, 1, 2 * kMiB + 1, 3},
                             Giant{DType::f4, 1, 32 * kMiB + 3, 33}, Giant{DType::f6_e2m3, 1, 22'369'622 + 7, 22}}) {
    if (!stride.takes_next()) continue;
    const std::vector<std::uint64_t> shape{giant.rows, giant.cols};
    const Bytes source = source_bytes(kSeed, giant.dtype, shape);
    for (const Codec codec : kCodecs) {
      if (codec == Codec::brotli && giant.dtype != DType::f64) continue;  // Slow, and no other path.
      INFO(name_of(giant.dtype) << " with codec " << name_of(codec));
      const Bytes file = file_of({}, [&](Writer& writer) {
        must(writer.add_exact(spec_of("giant", giant.dtype, shape, codec), reader_of(source)));
      });
      check_deep(file);
      const Reader reader = open_bytes(file);
      const Tensor tensor = *reader.find("giant");
      CHECK(tensor.plane(0).rows_per_block == 0);
      CHECK(tensor.plane(0).block_count == giant.rows * giant.blocks_per_row);
      CHECK((read_whole(tensor, giant.dtype) == source));
    }
  }
  const Bytes cut = weights(kSeed, DType::bf16, 2 * (8 * kMiB + 5));
  const Bytes in_planes = file_of({}, [&](Writer& writer) {
    TensorSpec spec = spec_of("giant", DType::bf16, {2, 8 * kMiB + 5}, Codec::zstd);
    spec.filter = Filter::byte_planes;
    must(writer.add_exact(spec, reader_of(cut)));
  });
  check_deep(in_planes);
  CHECK(open_bytes(in_planes).find("giant")->plane(0).block_count == 2 * 9);
  CHECK((read_whole(*open_bytes(in_planes).find("giant"), DType::bf16) == cut));
  // A row of exactly 16 MiB is one block.
  const Bytes source = mixed_bytes(kSeed, 32 * kMiB);
  const Bytes file = file_of({}, [&](Writer& writer) {
    must(writer.add_exact(spec_of("x", DType::u8, {2, 16 * kMiB}), reader_of(source)));
  });
  CHECK(open_bytes(file).find("x")->plane(0).rows_per_block == 1);
  CHECK((read_whole(*open_bytes(file).find("x"), DType::u8) == source));
}

TEST_CASE("writer: a row of whole bytes that is not first in a sub-byte tensor can be read alone") {
  const std::vector<std::uint64_t> shape{5, 12};  // F6: 9 bytes per row.
  const Bytes source = source_bytes(kSeed, DType::f6_e3m2, shape);
  const Bytes file = file_of(
      {}, [&](Writer& writer) { must(writer.add_exact(spec_of("x", DType::f6_e3m2, shape), reader_of(source))); });
  const Reader reader = open_bytes(file);
  const Tensor tensor = *reader.find("x");
  REQUIRE(tensor.rows() == 5);
  Bytes row(9);
  must(tensor.read_rows(3, 4, DType::f6_e3m2, row));
  CHECK((row == Bytes(source.begin() + 27, source.begin() + 36)));
}

TEST_CASE("writer: bytes appended in parts of any size give the file that add_exact gives") {
  INFO("seed " << kSeed);
  test::CaseStride stride;
  for (const Codec codec : {Codec::raw, Codec::zstd}) {
    for (const std::vector<std::uint64_t>& shape :
         std::vector<std::vector<std::uint64_t>>{{}, {0}, {3, 5}, {4097, 1000}, {1, 17 * kMiB}}) {
      if (shape == std::vector<std::uint64_t>{1, 17 * kMiB} && !stride.takes_next()) continue;
      const Bytes source = source_bytes(kSeed, DType::u8, shape);
      const TensorSpec spec = spec_of("x", DType::u8, shape, codec);
      const Bytes whole = file_of({}, [&](Writer& writer) { must(writer.add_exact(spec, reader_of(source))); });
      Random random(kSeed);
      for (const std::uint64_t part_max : {std::uint64_t{1}, std::uint64_t{7}, 3 * kMiB}) {
        if (part_max * 1'000'000 < source.size()) continue;
        const Bytes parts = file_of({4096, 2, nullptr}, [&](Writer& writer) {
          must(writer.begin_tensor(spec));
          must(writer.append({}));
          for (std::size_t done = 0; done < source.size();) {
            const std::size_t count = std::min<std::size_t>(source.size() - done, random.below(part_max + 1));
            must(writer.append(std::span(source).subspan(done, count)));
            done += count;
          }
          CHECK(must(writer.end_tensor()) == 0);
        });
        CHECK((parts == whole));
      }
    }
  }
}

TEST_CASE("writer: memory, a file and a pipe get the same bytes") {
  const Bytes memory = file_of({}, fill_everything);
  check_deep(memory);

  const TemporaryFolder folder;
  Writer file_writer = must(Writer::create(must(create_file(folder.path("x.cdna")))));
  fill_everything(file_writer);
  const Digest root = must(file_writer.finish());
  CHECK((load_file(folder.path("x.cdna")) == memory));
  CHECK(folder.entry_count() == 1);
  CHECK(root == open_bytes(memory).root());
  CHECK(must(Reader::open(folder.path("x.cdna"))).root() == root);

  int ends[2];
  REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
  Bytes piped;
  std::thread drain([&piped, fd = ends[0]] {
    std::array<std::byte, 10'007> buffer;  // Not a divisor of anything.
    for (ssize_t count = 0; (count = read(fd, buffer.data(), buffer.size())) > 0;) {
      piped.insert(piped.end(), buffer.begin(), buffer.begin() + count);
    }
  });
  {
    Writer writer = must(Writer::create(descriptor_sink(ends[1])));
    fill_everything(writer);
    must(writer.finish());
  }
  close(ends[1]);
  drain.join();
  close(ends[0]);
  CHECK((piped == memory));
}

TEST_CASE("writer: a pipe that nobody reads is an error with its errno") {
  struct sigaction ignore {
  }, before{};
  ignore.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &ignore, &before);
  int ends[2];
  REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
  close(ends[0]);
  const auto writer = Writer::create(descriptor_sink(ends[1]));
  REQUIRE_FALSE(writer);
  CHECK(writer.error().code == Code::io);
  CHECK(writer.error().os_errno == EPIPE);
  close(ends[1]);
  sigaction(SIGPIPE, &before, nullptr);
}

TEST_CASE("writer: 1, 2 and 8 threads give the same bytes") {
  INFO("seed " << kSeed);
  const Bytes one = file_of({}, fill_everything);
  for (const unsigned threads : {2U, 8U}) CHECK((file_of({4096, threads, nullptr}, fill_everything) == one));
}

TEST_CASE("writer: every alignment gives a valid file, and large planes start at multiples of it") {
  const Bytes source = mixed_bytes(kSeed, 17 * kMiB);  // 256 * 65536 bytes and more.
  test::CaseStride stride;
  for (std::uint32_t alignment = 64; alignment <= 65536; alignment *= 2) {
    if (!stride.takes_next()) continue;
    const Bytes file = file_of({alignment, 1, nullptr}, [&](Writer& writer) {
      must(writer.add_exact(spec_of("small", DType::u8, {100}), reader_of(source)));
      must(writer.add_exact(spec_of("large", DType::u8, {17, kMiB}), reader_of(source)));
    });
    check_deep(file);
    CHECK(open_bytes(file).alignment() == alignment);
    CHECK(open_bytes(file).find("large")->plane(0).offset % alignment == 0);
  }
  Bytes out;
  for (const std::uint32_t alignment : {0U, 1U, 32U, 63U, 65U, 96U, 4095U, 6144U, 131072U, 0x80000000U}) {
    const auto writer = Writer::create(memory_sink(out), {alignment, 1, nullptr});
    REQUIRE_FALSE(writer);
    CHECK(writer.error().code == Code::bad_argument);
  }
  CHECK(out.empty());
}

namespace {

// Section 17's rule for plane 0, from its text, without the library's geometry.
std::uint64_t expected_rows_per_block(std::uint64_t row_bytes, bool embedding) {
  const std::uint64_t target = embedding ? 262'144 : 1'048'576;
  if (row_bytes > 16'777'216) return 0;
  if (row_bytes == 0) return 1;
  std::uint64_t gcd = 4096;
  while (row_bytes % gcd != 0) gcd /= 2;
  const std::uint64_t pages = 4096 / gcd;
  const std::uint64_t multiple = pages * row_bytes <= target ? pages : 1;
  std::uint64_t rows = 0;
  while ((rows + multiple) * row_bytes <= target) rows += multiple;
  return std::max<std::uint64_t>(rows, 1);
}

}  // namespace

TEST_CASE("writer: blocks have the sizes of section 17, smaller for embeddings") {
  const std::vector<std::uint64_t> columns{1,         2,         3,          7,          64,         100,
                                           255,       256,       257,        1000,       4095,       4096,
                                           4097,      65'536,    262'143,    262'144,    262'145,    1'048'575,
                                           1'048'576, 1'048'577, 16'777'215, 16'777'216, 16'777'217, 1'000'000'000};
  for (const Role role : {Role::other, Role::embedding, Role::matrix}) {
    // Without rows the geometry is all there is: no data is needed.
    const Bytes file = file_of({}, [&](Writer& writer) {
      for (const std::uint64_t cols : columns)
        must(writer.add_exact(spec_of(std::to_string(cols), DType::u8, {0, cols}, Codec::raw, role), reader_of({})));
    });
    check_deep(file);
    const Reader reader = open_bytes(file);
    for (const std::uint64_t cols : columns) {
      INFO(cols);
      CHECK(reader.find(std::to_string(cols))->plane(0).rows_per_block ==
            expected_rows_per_block(cols, role == Role::embedding));
    }
  }
}

TEST_CASE("writer: planes beside the codes use the largest multiple of plane 0's rows within 1 MiB") {
  const std::vector<std::uint64_t> columns{1, 2, 3, 64, 100, 1000, 4096, 70'000};
  for (const Role role : {Role::other, Role::embedding}) {
    Bytes source = weights(kSeed, DType::bf16, 2 * columns.back());
    const Bytes file = file_of({}, [&](Writer& writer) {
      for (const std::uint64_t cols : columns) {
        must(writer.add_codebook(spec_of(std::to_string(cols), DType::bf16, {2, cols}, Codec::raw, role), {},
                                 reader_of(source)));
      }
    });
    check_deep(file);
    const Reader reader = open_bytes(file);
    for (const std::uint64_t cols : columns) {
      INFO(cols);
      const Tensor tensor = *reader.find(std::to_string(cols));
      const std::uint64_t first = expected_rows_per_block(cols, role == Role::embedding);
      std::uint64_t side = first;
      while (4 * (side + first) <= kMiB) side += first;
      CHECK(tensor.plane(0).rows_per_block == first);
      CHECK(tensor.plane(2).rows_per_block == side);
    }
  }
}

TEST_CASE("writer: the matrix view of a tensor follows section 17") {
  using Shape = std::vector<std::uint64_t>;
  struct Case {
    DType dtype;
    Shape shape;
    int row_dims;
  };
  for (const Case& c :
       {Case{DType::f32, {}, 0}, Case{DType::f32, {9}, 1}, Case{DType::f32, {9, 3}, 1}, Case{DType::f32, {9, 3, 63}, 1},
        Case{DType::f32, {9, 3, 64}, 2}, Case{DType::f32, {2, 2, 2, 64}, 3}, Case{DType::f4, {9, 3}, 0},
        Case{DType::f4, {9, 4}, 1}, Case{DType::f4, {9}, 0}, Case{DType::f6_e2m3, {9, 4}, 1},
        Case{DType::f6_e2m3, {9, 2}, 0}, Case{DType::f4, {2, 2, 65}, 0}}) {
    CHECK(default_row_dims(c.dtype, c.shape) == c.row_dims);
  }
}

TEST_CASE("writer: what written() says of a codebook tensor are section 17's sums over the decoded file") {
  INFO("seed " << kSeed);
  for (const DType dtype : {DType::f16, DType::bf16, DType::f32, DType::f64}) {
    INFO(name_of(dtype));
    constexpr std::uint64_t kRows = 3001;
    constexpr std::uint64_t kCols = 777;
    const Bytes source = weights(kSeed, dtype, kRows * kCols);
    WrittenItem written;
    const Bytes file = file_of({4096, 2, nullptr}, [&](Writer& writer) {
      written = writer.written(must(writer.add_codebook(spec_of("x", dtype, {kRows, kCols}), {}, reader_of(source))));
    });
    const Reader reader = open_bytes(file);
    const Tensor tensor = *reader.find("x");
    // As F64: codes widened from f32, outliers their stored value.
    const std::vector<double> decoded = values_of<double>(read_whole(tensor, DType::f64));
    std::vector<double> original;
    if (dtype == DType::f64) original = values_of<double>(source);
    if (dtype == DType::f32)
      for (const float value : values_of<float>(source)) original.push_back(static_cast<double>(value));
    if (dtype == DType::bf16) {
      for (const std::uint16_t bits : values_of<std::uint16_t>(source)) {
        const std::uint32_t wide = std::uint32_t{bits} << 16;
        float value = 0;
        std::memcpy(&value, &wide, 4);
        original.push_back(static_cast<double>(value));
      }
    }
    if (dtype == DType::f16) {
      for (const std::uint16_t bits : values_of<std::uint16_t>(source)) {  // All of them are normal numbers.
        const double magnitude = std::ldexp(1024.0 + (bits & 1023), static_cast<int>(bits >> 10 & 31) - 25);
        original.push_back(bits >> 15 != 0 ? -magnitude : magnitude);
      }
    }
    REQUIRE(decoded.size() == original.size());

    double sum_squares = 0;
    double sum_squared_error = 0;
    double largest = 0;
    const std::uint64_t block_elements = tensor.plane(0).rows_per_block * kCols;
    REQUIRE(tensor.plane(0).block_count > 1);
    for (std::uint64_t begin = 0; begin < original.size(); begin += block_elements) {
      double squares[8] = {};
      double errors[8] = {};
      for (std::uint64_t i = begin; i < std::min<std::uint64_t>(original.size(), begin + block_elements); ++i) {
        const double error = original[i] - decoded[i];
        squares[(i - begin) % 8] += original[i] * original[i];
        errors[(i - begin) % 8] += error * error;
        largest = std::max(largest, std::abs(error));
      }
      sum_squares += ((squares[0] + squares[1]) + (squares[2] + squares[3])) +
                     ((squares[4] + squares[5]) + (squares[6] + squares[7]));
      sum_squared_error +=
          ((errors[0] + errors[1]) + (errors[2] + errors[3])) + ((errors[4] + errors[5]) + (errors[6] + errors[7]));
    }
    CHECK(written.statistics.sum_squares == sum_squares);
    CHECK(written.statistics.sum_squared_error == sum_squared_error);
    auto rounded = static_cast<float>(largest);
    if (static_cast<double>(rounded) < largest)
      rounded = std::nextafter(rounded, std::numeric_limits<float>::infinity());
    CHECK(written.statistics.max_abs_error == static_cast<double>(rounded));
    CHECK(tensor.sum_squares() == sum_squares);
    CHECK(tensor.sum_squared_error() == sum_squared_error);
    CHECK(tensor.max_abs_error() == static_cast<double>(rounded));
    CHECK(written.stored_bytes == tensor.stored_bytes());

    std::uint64_t outliers = 0;
    auto blocks = must(tensor.blocks());
    for (const Result<Block>& block : blocks) outliers += must(block).outlier_count;
    CHECK(written.statistics.outlier_count == outliers);
    CHECK(outliers > 0);
    CHECK(outliers * 1000 <= kRows * kCols);
  }
}

TEST_CASE("writer: metadata comes back, with the writer's name added unless the caller gave one") {
  Bytes out;
  Writer writer = must(Writer::create(memory_sink(out)));
  Metadata metadata{
      {"a", true},     {"b", std::int64_t{-5}}, {"c", std::uint64_t{1} << 63}, {"d", 0.5}, {"e", std::string("text")},
      {"f", Bytes(3)}, {"g", JsonText{"[1]"}},  {"h", std::monostate{}}};
  must(writer.finish(metadata));
  check_deep(out);
  Metadata read = must(open_bytes(out).metadata());
  REQUIRE(read.count("cdna.writer") == 1);
  read.erase("cdna.writer");
  CHECK((read == metadata));

  Bytes named;
  Writer own = must(Writer::create(memory_sink(named)));
  must(own.finish({{"cdna.writer", std::string("me")}}));
  CHECK(std::get<std::string>(must(open_bytes(named).metadata()).at("cdna.writer")) == "me");
}

TEST_CASE("writer: tensors and assets have name spaces of their own, and aliases lead to their tensor") {
  const Bytes source = mixed_bytes(kSeed, 100);
  const Bytes file = file_of({}, [&](Writer& writer) {
    must(writer.add_asset("a", "text/plain", 5, Codec::raw, reader_of(source)));
    CHECK(must(writer.add_exact(spec_of("a", DType::u8, {100}), reader_of(source))) == 1);
    CHECK(must(writer.add_alias("b", 1)) == 2);
    CHECK(must(writer.add_alias("c", 1)) == 3);
    must(writer.add_asset("b", "", 0, Codec::zstd, reader_of(source)));
  });
  check_deep(file);
  const Reader reader = open_bytes(file);
  CHECK((read_whole(*reader.find("c"), DType::u8) == source));
  CHECK(reader.find_asset("a")->size_bytes() == 5);
  CHECK(reader.find_asset("b")->size_bytes() == 0);
}

namespace {

// The error of one call on a fresh writer to a file; afterwards the folder is empty.
template <class Call>
Error error_of(const Call& call, const WriterOptions& options = {}) {
  const TemporaryFolder folder;
  Error error;
  {
    Writer writer = must(Writer::create(must(create_file(folder.path("x.cdna"))), options));
    const Bytes source = mixed_bytes(kSeed, 64);
    must(writer.add_exact(spec_of("first", DType::u8, {8, 8}), reader_of(source)));
    auto result = call(writer);
    REQUIRE_FALSE(result.has_value());
    error = result.error();
    CHECK(folder.entry_count() == 0);
  }
  CHECK(folder.entry_count() == 0);
  return error;
}

Result<void> none(std::uint64_t, std::span<std::byte>) { return {}; }

}  // namespace

TEST_CASE("writer: too many and too few bytes are refused") {
  const Bytes source = mixed_bytes(kSeed, 3 * kMiB);
  for (const std::uint64_t wanted : {std::uint64_t{0}, std::uint64_t{1}, kMiB, 2 * kMiB + 1}) {
    for (const int difference : {-1, 1}) {
      if (wanted == 0 && difference < 0) continue;
      INFO(wanted << " and " << difference);
      const Error error = error_of([&](Writer& writer) -> Result<std::uint32_t> {
        if (auto result = writer.begin_tensor(spec_of("x", DType::u8, {wanted})); !result) return result.error();
        const std::uint64_t given = difference < 0 ? wanted - 1 : wanted + 1;
        if (auto result = writer.append(std::span(source).first(given)); !result) return result.error();
        return writer.end_tensor();
      });
      CHECK(error.code == Code::bad_argument);
    }
  }
}

TEST_CASE("writer: a name can be taken once per name space") {
  const Bytes source = mixed_bytes(kSeed, 64);
  for (const int way : {0, 1, 2, 3}) {
    INFO(way);
    const Error error = error_of([&](Writer& writer) -> Result<std::uint32_t> {
      if (way == 0) return writer.add_exact(spec_of("first", DType::u8, {1}), none);
      if (way == 1) return writer.add_alias("first", 0);
      if (way == 2) return writer.add_codebook(spec_of("first", DType::f16, {1}), {}, none);
      must(writer.add_asset("asset", "", 1, Codec::raw, none));
      return writer.add_asset("asset", "", 1, Codec::raw, none);
    });
    CHECK(error.code == Code::exists);
    CHECK(error.item == (way == 3 ? "asset" : "first"));
  }
}

TEST_CASE("writer: names that the format does not allow are refused") {
  const std::vector<std::string> bad{"",
                                     "a\nb",
                                     std::string("a\0b", 3),
                                     "\x7F",
                                     "\xC2\x80",
                                     "\xC2\x9F",
                                     "\xFF",
                                     "\xC3",
                                     "a\x80",
                                     "\xC0\x80",
                                     "\xE0\x80\x80",
                                     "\xED\xA0\x80",
                                     "\xF4\x90\x80\x80",
                                     std::string(1025, 'n'),
                                     std::string(1'000'000, 'n')};
  for (const std::string& name : bad) {
    INFO(escape(name.substr(0, 20)));
    CHECK(error_of([&](Writer& writer) { return writer.add_exact(spec_of(name, DType::u8, {1}), none); }).code ==
          Code::bad_argument);
    CHECK(error_of([&](Writer& writer) {
            return writer.add_codebook(spec_of(name, DType::f32, {1}), {}, none);
          }).code == Code::bad_argument);
    CHECK(error_of([&](Writer& writer) { return writer.add_alias(name, 0); }).code == Code::bad_argument);
    CHECK(error_of([&](Writer& writer) { return writer.add_asset(name, "", 1, Codec::raw, none); }).code ==
          Code::bad_argument);
  }
  for (const std::string& type :
       {std::string("a\n"), std::string("\x7F"), std::string("\xC3\xA4"), std::string(256, 't')}) {
    CHECK(error_of([&](Writer& writer) { return writer.add_asset("a", type, 1, Codec::raw, none); }).code ==
          Code::bad_argument);
  }
  CHECK(error_of([&](Writer& writer) { return writer.add_asset("metadata", "", 1, Codec::raw, none); }).code ==
        Code::bad_argument);
  const Bytes file = file_of({}, [&](Writer& writer) {
    must(writer.add_exact(spec_of(std::string(1024, 'n'), DType::u8, {0}), none));
    must(writer.add_exact(spec_of("../\xE2\x82\xAC \xF0\x9F\x98\x80 \xED\x9F\xBF", DType::u8, {0}), none));
    must(writer.add_exact(spec_of("metadata", DType::u8, {0}), none));
    must(writer.add_asset("a", std::string(255, ' '), 0, Codec::raw, none));
  });
  check_deep(file);
}

TEST_CASE("writer: an alias must name an earlier tensor") {
  CHECK(error_of([](Writer& writer) { return writer.add_alias("a", 1); }).code == Code::bad_argument);  // A later item.
  CHECK(error_of([](Writer& writer) { return writer.add_alias("a", ~0U); }).code == Code::bad_argument);  // Nothing.
  CHECK(error_of([](Writer& writer) {
          must(writer.add_alias("a", 0));
          return writer.add_alias("b", 1);  // An alias.
        }).code == Code::bad_argument);
  CHECK(error_of([](Writer& writer) {
          must(writer.add_asset("a", "", 1, Codec::raw, none));
          return writer.add_alias("b", 1);  // An asset.
        }).code == Code::bad_argument);
}

TEST_CASE("writer: shapes and dtypes beyond the format are refused") {
  const auto exact = [](DType dtype, std::vector<std::uint64_t> shape) {
    return error_of([&](Writer& writer) { return writer.add_exact(spec_of("x", dtype, shape), none); }).code;
  };
  CHECK(exact(DType::none, {1}) == Code::bad_argument);
  CHECK(exact(static_cast<DType>(23), {1}) == Code::bad_argument);
  CHECK(exact(DType::u8, std::vector<std::uint64_t>(9, 1)) == Code::bad_argument);
  CHECK(exact(DType::u8, {std::uint64_t{1} << 60}) == Code::limit);
  CHECK(exact(DType::u8, {0, std::uint64_t{1} << 60}) == Code::limit);
  CHECK(exact(DType::u8, {std::uint64_t{1} << 40, std::uint64_t{1} << 40}) == Code::limit);
  CHECK(exact(DType::u8, {~std::uint64_t{0}, ~std::uint64_t{0}, ~std::uint64_t{0}}) == Code::limit);
}

TEST_CASE("writer: a tensor without elements may have any shape below 2^60") {
  for (const DType dtype : {DType::u8, DType::f4, DType::f64}) {
    INFO(name_of(dtype));
    const Bytes file = file_of({}, [&](Writer& writer) {
      must(writer.add_exact(spec_of("a", dtype, {0, std::uint64_t{1} << 59}), none));
      must(writer.add_exact(spec_of("b", dtype, {std::uint64_t{1} << 59, 0}), none));
      must(writer.add_exact(spec_of("c", dtype, {(std::uint64_t{1} << 59) - 1, 1, 0, 1}), none));
    });
    check_deep(file);
  }
}

TEST_CASE("writer: only finite float tensors with columns can be codebook-encoded") {
  for (const DType dtype : all_dtypes()) {
    if (is_float(dtype)) continue;
    CHECK(error_of([&](Writer& writer) {
            return writer.add_codebook(spec_of("x", dtype, {4, 4}), {}, none);
          }).code == Code::bad_argument);
  }
  for (const std::vector<std::uint64_t>& shape :
       std::vector<std::vector<std::uint64_t>>{{0}, {4, 0}, {0, 4}, {1, 16 * kMiB + 1}}) {
    CHECK(error_of([&](Writer& writer) {
            return writer.add_codebook(spec_of("x", DType::f32, shape), {}, none);
          }).code == Code::bad_argument);
  }
}

TEST_CASE(
    "writer: the first NaN or infinity of a codebook tensor is named by row and column, for any number of threads") {
  constexpr std::uint64_t kRows = 4000;
  constexpr std::uint64_t kCols = 1000;
  for (const DType dtype : {DType::f16, DType::bf16, DType::f32, DType::f64}) {
    const std::size_t size = bits_of(dtype) / 8;
    for (const bool nan : {true, false}) {
      Bytes source = weights(kSeed, dtype, kRows * kCols);
      for (const std::uint64_t place : {std::uint64_t{2345'678}, std::uint64_t{2345'679}, std::uint64_t{3999'999}}) {
        const double wide = nan ? std::numeric_limits<double>::quiet_NaN() : -std::numeric_limits<double>::infinity();
        const auto narrow = static_cast<float>(wide);
        const std::uint16_t half = nan ? 0x7E00 : 0xFC00;
        if (dtype == DType::f64) std::memcpy(&source[place * size], &wide, size);
        if (dtype == DType::f32) std::memcpy(&source[place * size], &narrow, size);
        if (dtype == DType::bf16) std::memcpy(&source[place * size], reinterpret_cast<const char*>(&narrow) + 2, size);
        if (dtype == DType::f16) std::memcpy(&source[place * size], &half, size);
      }
      for (const unsigned threads : {1U, 8U}) {
        const Error error = error_of(
            [&](Writer& writer) {
              return writer.add_codebook(spec_of("bad", dtype, {kRows, kCols}), {}, reader_of(source));
            },
            {4096, threads, nullptr});
        CHECK(error.code == Code::bad_argument);
        CHECK(error.item == "bad");
        CHECK_THAT(error.message, Catch::Contains("row 2345, column 678 "));
      }
    }
  }
  // An F64 value that f32 cannot hold.
  Bytes source = weights(kSeed, DType::f64, 10);
  const double huge = 1e39;
  std::memcpy(&source[8 * 7], &huge, 8);
  const Error error = error_of([&](Writer& writer) {
    return writer.add_codebook(spec_of("bad", DType::f64, {2, 5}), {}, reader_of(source));
  });
  CHECK_THAT(error.message, Catch::Contains("row 1, column 2 "));
}

TEST_CASE("writer: the error of a ByteReader is the error of the call") {
  for (const unsigned threads : {1U, 8U}) {
    for (const bool codebook : {false, true}) {
      for (const int failing_call :
           {0, 1, 5, 6, 9}) {  // 5 blocks: of a codebook tensor the second pass begins with call 5.
        std::atomic<int> calls = 0;
        const ByteReader failing = [&](std::uint64_t, std::span<std::byte> out) -> Result<void> {
          std::fill(out.begin(), out.end(), std::byte{0});
          if (calls++ < failing_call) return {};
          Error error;
          error.code = Code::io;
          error.os_errno = ESTALE;
          error.message = "gone";
          return error;
        };
        const TensorSpec spec = spec_of("x", DType::f32, {5 * 1024, 1024});
        const Error error = error_of(
            [&](Writer& writer) {
              return codebook ? writer.add_codebook(spec, {}, failing) : writer.add_exact(spec, failing);
            },
            {4096, threads, nullptr});
        CHECK(error.code == Code::io);
        CHECK(error.os_errno == ESTALE);
        CHECK(error.message == "gone");
        CHECK(error.item == "x");
      }
    }
  }
}

TEST_CASE("writer: a stop flag cancels the call in progress") {
  for (const unsigned threads : {1U, 8U}) {
    for (const int stop_at : {0, 3, 7}) {
      for (const int way : {0, 1, 2}) {
        std::atomic<bool> stop = false;
        std::atomic<int> calls = 0;
        const ByteReader stopping = [&](std::uint64_t, std::span<std::byte> out) -> Result<void> {
          std::fill(out.begin(), out.end(), std::byte{0});
          if (calls++ == stop_at) stop = true;
          return {};
        };
        const TensorSpec spec = spec_of("x", DType::f32, {5 * 1024, 1024});
        const Error error = error_of(
            [&](Writer& writer) {
              if (way == 0) return writer.add_exact(spec, stopping);
              if (way == 1) return writer.add_codebook(spec, {}, stopping);
              return writer.add_asset("x", "", 20 * kMiB, Codec::zstd, stopping);
            },
            {4096, threads, &stop});
        CHECK(error.code == Code::cancelled);
        CHECK(calls < 20);
      }
    }
  }
  std::atomic<bool> stop = false;
  const Error error = error_of(
      [&](Writer& writer) {
        stop = true;
        return writer.finish();
      },
      {4096, 1, &stop});
  CHECK(error.code == Code::cancelled);
}

TEST_CASE("writer: calls out of order are refused") {
  const auto begun = [](const auto& call) {
    return error_of([&](Writer& writer) {
             must(writer.begin_tensor(spec_of("open", DType::u8, {4})));
             return call(writer);
           })
        .code;
  };
  CHECK(begun([](Writer& writer) { return writer.begin_tensor(spec_of("x", DType::u8, {4})); }) == Code::bad_argument);
  CHECK(begun([](Writer& writer) { return writer.add_exact(spec_of("x", DType::u8, {4}), none); }) ==
        Code::bad_argument);
  CHECK(begun([](Writer& writer) { return writer.add_codebook(spec_of("x", DType::f32, {4}), {}, none); }) ==
        Code::bad_argument);
  CHECK(begun([](Writer& writer) { return writer.add_alias("x", 0); }) == Code::bad_argument);
  CHECK(begun([](Writer& writer) { return writer.add_asset("x", "", 1, Codec::raw, none); }) == Code::bad_argument);
  CHECK(begun([](Writer& writer) { return writer.finish(); }) == Code::bad_argument);
  CHECK(error_of([](Writer& writer) { return writer.append({}); }).code == Code::bad_argument);
  CHECK(error_of([](Writer& writer) { return writer.end_tensor(); }).code == Code::bad_argument);
}

TEST_CASE("writer: bits beyond the last element of a sub-byte tensor are refused, as readers refuse them") {
  const Bytes ones(3, std::byte{0xFF});
  const auto add = [&](DType dtype, std::vector<std::uint64_t> shape) {
    return
        [&ones, dtype, shape](Writer& writer) { return writer.add_exact(spec_of("x", dtype, shape), reader_of(ones)); };
  };
  CHECK(error_of(add(DType::f4, {3})).code == Code::bad_argument);       // 12 of 16 bits.
  CHECK(error_of(add(DType::f6_e2m3, {3})).code == Code::bad_argument);  // 18 of 24 bits.
  check_deep(file_of({}, [&](Writer& writer) { must(add(DType::f4, {6})(writer)); }));
}

TEST_CASE("writer: a block holds as many outliers as the format allows, or the tensor is refused") {
  // Half of a row of 2^22 F64 values as outliers would be 24 MiB in one block; 16 MiB is the limit (X3).
  constexpr std::uint64_t kCols = 4 * kMiB;
  const Bytes source = weights(kSeed, DType::f64, kCols);
  Bytes out;
  Writer writer = must(Writer::create(memory_sink(out)));
  const auto item =
      writer.add_codebook(spec_of("x", DType::f64, {1, kCols}), {.outlier_fraction = 0.5}, reader_of(source));
  if (!item) {
    CHECK((item.error().code == Code::limit || item.error().code == Code::bad_argument));
    return;
  }
  must(writer.finish());
  check_deep(out);
}

TEST_CASE("writer: an outlier fraction outside 0..1 is refused") {
  const Bytes source = weights(kSeed, DType::f32, 4096);
  for (const double fraction :
       {-0.001, 1.001, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    INFO(fraction);
    CHECK(error_of([&](Writer& writer) {
            return writer.add_codebook(spec_of("x", DType::f32, {64, 64}), {.outlier_fraction = fraction},
                                       reader_of(source));
          }).code == Code::bad_argument);
  }
}

TEST_CASE("writer: a sink that fails at any write fails the call, and is never committed") {
  const Bytes source = weights(kSeed, DType::f32, 3000);
  const auto write_file = [&](std::uint64_t fail_at, bool* committed) -> Result<Digest> {
    auto writer = Writer::create(std::make_unique<NullSink>(fail_at, committed));
    if (!writer) return writer.error();
    if (auto result = writer->add_exact(spec_of("a", DType::f32, {3, 1000}), reader_of(source)); !result)
      return result.error();
    if (auto result = writer->add_codebook(spec_of("b", DType::f32, {3, 1000}), {}, reader_of(source)); !result)
      return result.error();
    if (auto result = writer->add_alias("c", 0); !result) return result.error();
    if (auto result = writer->add_asset("d", "", 100, Codec::raw, reader_of(source)); !result) return result.error();
    return writer->finish();
  };
  std::uint64_t failures = 0;
  for (std::uint64_t fail_at = 0; fail_at < 1000; ++fail_at) {
    bool committed = false;
    const auto result = write_file(fail_at, &committed);
    CHECK(committed == result.has_value());
    if (result) break;
    CHECK(result.error().os_errno == ENOSPC);
    ++failures;
  }
  CHECK(failures > 20);
}

TEST_CASE("writer: planes that outgrow their memory budget come back right") {
  INFO("seed " << kSeed);
  // Row scales: 5 M rows of one column are 20 MB of f32. Outliers: half of 5 M elements, 8 bytes each, are 20 MB.
  constexpr std::uint64_t kCount = 5'000'000;
  const Bytes source = weights(kSeed, DType::f32, kCount);
  const Bytes file = file_of({4096, 2, nullptr}, [&](Writer& writer) {
    must(writer.add_codebook(spec_of("rows", DType::f32, {kCount, 1}), {}, reader_of(source)));
    must(writer.add_codebook(spec_of("outliers", DType::f32, {kCount / 500, 500}), {.outlier_fraction = 0.5},
                             reader_of(source)));
  });
  check_deep(file);
  const Reader reader = open_bytes(file);
  const Tensor rows = *reader.find("rows");
  CHECK(rows.plane(2).stored_bytes == 4 * kCount);
  // One column: the scale of a row is its magnitude, and its only entry is +1 or -1 but for rounding of the codebook to
  // +-1.
  CHECK((values_of<float>(read_whole(rows, DType::f32)) == values_of<float>(source)));

  const Tensor outliers = *reader.find("outliers");
  CHECK(outliers.plane(3).stored_bytes > 17 * kMiB);
  const std::vector<float> decoded = values_of<float>(read_whole(outliers, DType::f32));
  const std::vector<float> original = values_of<float>(source);
  std::uint64_t exact = 0;
  std::uint64_t wrong = 0;
  auto blocks = must(outliers.blocks());
  for (const Result<Block>& result : blocks) {
    const Block& block = must(result);
    exact += block.outlier_count;
    for (std::uint64_t i = 0; i < block.outlier_count; ++i) {
      std::uint32_t position = 0;
      std::memcpy(&position, &block.outlier_positions[4 * i], 4);
      const std::uint64_t place = block.row_begin * 500 + position;
      wrong += std::memcmp(&decoded[place], &original[place], 4) != 0;
    }
  }
  CHECK(exact > kCount * 45 / 100);
  CHECK(wrong == 0);
  for (std::size_t i = 0; i < original.size(); ++i) {
    wrong += std::abs(static_cast<double>(original[i]) - static_cast<double>(decoded[i])) > outliers.max_abs_error();
  }
  CHECK(wrong == 0);
}

TEST_CASE("writer: a spool gives back what it took, whatever part of it is in memory") {
  INFO("seed " << kSeed);
  for (const std::size_t budget :
       {std::size_t{0}, std::size_t{1}, std::size_t{1000}, std::size_t{2} << 20, std::size_t{64} << 20}) {
    Random random(kSeed);
    Spool spool(budget);
    Bytes expected;
    while (expected.size() < 5 * kMiB) {
      const Bytes part = mixed_bytes(random.next(), random.below(300'000));
      must(spool.append(part));
      expected.insert(expected.end(), part.begin(), part.end());
    }
    must(spool.append({}));
    CHECK(spool.size_bytes() == expected.size());
    Bytes out;
    const auto sink = memory_sink(out);
    must(spool.drain(*sink));
    CHECK((out == expected));
  }
  Bytes out;
  must(Spool(10).drain(*memory_sink(out)));
  CHECK(out.empty());
}

namespace {

std::uint64_t peak_kib() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return std::stoull(line.substr(6));
  }
  return ~std::uint64_t{0};
}

// Cheap, and different in every word: nothing gains from it being constant.
Result<void> generate(std::uint64_t offset, std::span<std::byte> out) {
  for (std::size_t i = 0; i + 8 <= out.size(); i += 8) {
    const std::uint64_t word = (offset + i) * 0x9E3779B97F4A7C15U & 0x3F7FFFFF'3F7FFFFFU;  // Two finite floats.
    std::memcpy(&out[i], &word, 8);
  }
  return {};
}

}  // namespace

// Run by the test below in a process of its own, whose peak it measures.
TEST_CASE("writer: child process that writes 400 MiB", "[.memory-child]") {
  const unsigned threads = static_cast<unsigned>(std::stoul(std::getenv("CDNA_TEST_THREADS")));
  Writer writer = must(Writer::create(std::make_unique<NullSink>(), {4096, threads, nullptr}));
  const std::uint64_t rows = 400 * kMiB / 4 / 4096;
  must(writer.add_exact(spec_of("exact", DType::f32, {rows, 4096}), generate));
  must(writer.add_codebook(spec_of("code", DType::f32, {rows / 8, 4096}), {}, generate));
  must(writer.finish());
  INFO("peak " << peak_kib() << " KiB");
  CHECK(peak_kib() < 128 * 1024);
}

TEST_CASE("writer: writing 400 MiB takes less than 128 MiB of memory") {
#ifdef CDNA_UNDER_ASAN
  WARN("skipped: AddressSanitizer keeps freed memory, so the peak says nothing");
#else
  for (const char* const threads : {"1", "4"}) {
    INFO(threads << " threads");
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      setenv("CDNA_TEST_THREADS", threads, 1);
      execl("/proc/self/exe", "writer_test", "[.memory-child]", static_cast<char*>(nullptr));
      _exit(127);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
  }
#endif
}
