// A source that lies is found out at the level of the lie: whoever knows the root needs to trust no byte.
#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>

#include "cdna/source.hpp"
#include "sample_file.hpp"

namespace {

using Bytes = std::vector<std::byte>;
using cdna::test::must;

constexpr std::uint64_t kSeed = 77;
constexpr std::uint64_t kNever = ~std::uint64_t{0};

// What one of the reads is answered with instead of the truth. Reads count from 1.
struct Lie {
  std::uint64_t read = kNever;
  std::uint64_t bit = 0;              // Flipped in the answer, modulo its length,
  const Bytes* other_file = nullptr;  // or the answer comes from this file, which is as long.
};

struct ReadLog {
  struct Read {
    std::uint64_t offset;
    std::uint64_t size;
    bool operator==(const Read&) const = default;
  };
  std::vector<Read> reads;

  std::uint64_t bytes() const {
    std::uint64_t sum = 0;
    for (const Read& read : reads) sum += read.size;
    return sum;
  }
};

// Bytes over a network, say: no mapping, so that everything is read, copied and checked (strict).
class LyingSource final : public cdna::Source {
 public:
  LyingSource(const Bytes& file, const Lie& lie, ReadLog& log) : file_(file), lie_(lie), log_(log) {}
  std::uint64_t size_bytes() const override { return file_.size(); }

  cdna::Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    log_.reads.push_back({offset, out.size()});
    const bool lies = log_.reads.size() == lie_.read;
    const Bytes& from = lies && lie_.other_file != nullptr ? *lie_.other_file : file_;
    std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
    if (lies && lie_.other_file == nullptr) out[lie_.bit / 8 % out.size()] ^= std::byte{1} << (lie_.bit % 8);
    return {};
  }

 private:
  const Bytes& file_;
  const Lie lie_;
  ReadLog& log_;
};

struct Request {
  std::string tensor;
  cdna::DType dtype;
  std::uint64_t begin;
  std::uint64_t end;
};

struct Answer {
  cdna::Result<Bytes> rows = Bytes{};
  ReadLog log;
  cdna::ReadStatistics statistics;
  std::uint64_t footer_bytes = 0;
};

// Opens with nothing but the root known, and reads a few rows.
Answer ask(const Bytes& file, const cdna::Digest& root, const Request& request, const Lie& lie = {}) {
  Answer answer;
  cdna::OpenOptions options;
  options.expected_root = root;
  auto reader = cdna::Reader::open(std::make_unique<LyingSource>(file, lie, answer.log), options);
  if (!reader) {
    answer.rows = reader.error();
    return answer;
  }
  const cdna::Tensor tensor = reader->find(request.tensor).value();
  Bytes rows((request.end - request.begin) * tensor.row_bytes(request.dtype));
  const auto result = tensor.read_rows(request.begin, request.end, request.dtype, rows);
  if (result)
    answer.rows = std::move(rows);
  else
    answer.rows = result.error();
  answer.statistics = reader->statistics();
  answer.footer_bytes = reader->footer_bytes();
  return answer;
}

cdna::Digest root_of(const Bytes& file) { return must(cdna::Reader::open(cdna::memory_source(file))).root(); }

// Tensors of several blocks: "exact" has 4 of 256 KiB, "codebook" 3 of 256 KiB of codes, "zstd" 3. The other file has
// the same names, shapes and lengths, and differs in every block of "exact" and "codebook".
Bytes make_file(bool other) {
  cdna::test::Random random(kSeed);
  Bytes exact = random.bytes(4 << 18);
  std::vector<float> weights = random.weights(640 << 10);
  Bytes zstd = random.bytes(3 << 18);
  for (std::size_t i = 0; i < zstd.size(); i += 2) zstd[i] = std::byte{0};
  if (other) {
    for (std::byte& byte : exact) byte ^= std::byte{0xFF};
    for (float& weight : weights) weight *= -2;  // As many outliers, at the same places.
  }
  const Bytes codebook = cdna::test::bytes_of_values(weights);
  return cdna::test::write_file({}, [&](cdna::Writer& writer) {
    using cdna::test::reader_of;
    must(writer.add_exact({"exact", cdna::DType::u16, {1024, 512}, cdna::Role::embedding, cdna::Codec::raw},
                          reader_of(exact)));
    must(writer.add_codebook({"codebook", cdna::DType::f32, {640, 1024}, cdna::Role::embedding, cdna::Codec::raw}, {},
                             reader_of(codebook)));
    must(writer.add_exact({"zstd", cdna::DType::u16, {768, 512}, cdna::Role::embedding, cdna::Codec::zstd},
                          reader_of(zstd)));
  });
}

const Bytes& the_file() {
  static const Bytes file = make_file(false);
  return file;
}

const Bytes& other_file() {
  static const Bytes file = make_file(true);
  return file;
}

const Request kExact{"exact", cdna::DType::u16, 300, 310};
const Request kCodebook{"codebook", cdna::DType::f32, 300, 310};
const Request kZstd{"zstd", cdna::DType::u16, 300, 310};

// The bits to flip in an answer of `size` bytes: all of a small one, about 1000 of a larger one, odd steps apart so
// that every bit of a byte has its turn.
std::vector<std::uint64_t> bits_to_flip(std::uint64_t size) {
  const std::uint64_t step = size <= 512 ? 1 : 8 * size / 1000 | 1;
  std::vector<std::uint64_t> bits;
  for (std::uint64_t bit = 0; bit < 8 * size; bit += step) bits.push_back(bit);
  bits.push_back(8 * size - 1);
  return bits;
}

// The rule that must find a lie in each read, in order. "" for the second read, of the head's magic: it is only looked
// at where the tail's magic is missing, and the head is read again after the footer.
void check_lies(const Request& request, const std::vector<std::string>& rules) {
  const Bytes& file = the_file();
  const cdna::Digest root = root_of(file);
  const Answer truth = ask(file, root, request);
  REQUIRE(truth.rows);
  REQUIRE(truth.log.reads.size() == rules.size());
  for (std::uint64_t read = 1; read <= rules.size(); ++read) {
    const ReadLog::Read place = truth.log.reads[read - 1];
    std::size_t wrong = 0;
    for (const std::uint64_t bit : bits_to_flip(place.size)) {
      const Answer answer = ask(file, root, request, {read, bit, nullptr});
      std::string expected = rules[read - 1];
      if (read == 1 && bit / 8 >= 248) expected = "T2";  // The tail's magic: the end is missing.
      if (expected.empty()) {
        wrong += !answer.rows || *answer.rows != *truth.rows;
        continue;
      }
      const bool named = !answer.rows && answer.rows.error().rule == expected;
      if (named && answer.log.reads.size() == read + (expected == "T2" ? 1U : read == 1 ? 1U : 0U)) continue;
      if (++wrong <= 5) {
        FAIL_CHECK("a lie in read " << read << ", bit " << bit << " (byte " << place.offset + bit / 8
                                    << " of the file): expected " << expected << ", "
                                    << (answer.rows ? "and the rows came" : answer.rows.error().describe())
                                    << ", after " << answer.log.reads.size() << " reads");
      }
    }
    CHECK(wrong == 0);
  }
}

}  // namespace

TEST_CASE("lying source: ten rows of an exact tensor name the level of the lie") {
  // Tail, magic, footer, head; index; one block.
  check_lies(kExact, {"T3", "", "F1", "H1", "X1", "B1"});
}

TEST_CASE("lying source: ten rows of a zstd tensor name the level of the lie, before the codec sees it") {
  check_lies(kZstd, {"T3", "", "F1", "H1", "X1", "B1"});
}

TEST_CASE("lying source: ten rows of a codebook tensor name the level of the lie in every plane") {
  // Tail, magic, footer, head; index; codes, row scales, outliers and codebook, in the order in which they are fetched.
  const std::vector<std::string> rules{"T3", "", "F1", "H1", "X1", "B1", "B1", "B1", "B1"};
  check_lies(kCodebook, rules);
  const Bytes& file = the_file();
  std::vector<std::int32_t> planes;
  for (std::uint64_t read = 6; read <= rules.size(); ++read) {
    const Answer answer = ask(file, root_of(file), kCodebook, {read, 5, nullptr});
    REQUIRE_FALSE(answer.rows);
    planes.push_back(answer.rows.error().plane);
    CHECK(answer.rows.error().item == "codebook");
    CHECK(answer.rows.error().offset == answer.log.reads[read - 1].offset);
  }
  std::sort(planes.begin(), planes.end());
  CHECK(planes == std::vector<std::int32_t>{0, 1, 2, 3});
}

TEST_CASE("lying source: another good file in place of any read is found out") {
  const Bytes& file = the_file();
  const Bytes& other = other_file();
  REQUIRE(file.size() == other.size());
  for (const Request& request : {kExact, kCodebook}) {
    const Answer truth = ask(file, root_of(file), request);
    REQUIRE(truth.rows);
    for (std::uint64_t read = 1; read <= truth.log.reads.size(); ++read) {
      const Answer answer = ask(file, root_of(file), request, {read, 0, &other});
      INFO("read " << read);
      // Heads of the same alignment are the same.
      const bool same = read == 2 || read == 4;
      REQUIRE(answer.rows.has_value() == same);
      if (same) {
        CHECK(*answer.rows == *truth.rows);
      } else {
        const std::string expected = read == 1 ? "T4" : read == 3 ? "F1" : read == 5 ? "X1" : "B1";
        CHECK(answer.rows.error().rule == expected);
      }
    }
  }
}

TEST_CASE("lying source: a row range costs six reads, of the footer, one index and one block of four") {
  const Bytes& file = the_file();
  const Answer answer = ask(file, root_of(file), kExact);
  REQUIRE(answer.rows);
  const auto reader = must(cdna::Reader::open(cdna::memory_source(file)));
  const cdna::Tensor tensor = reader.find("exact").value();
  const std::uint64_t index_bytes = 64 * tensor.block_count();
  const std::uint64_t block_bytes = 1 << 18;
  const std::uint64_t plane = tensor.plane(0).offset;
  REQUIRE(tensor.block_count() == 4);
  const std::vector<ReadLog::Read> expected{
      {file.size() - 256, 256},
      {0, 8},
      {file.size() - 256 - (answer.footer_bytes + 63) / 64 * 64, answer.footer_bytes},
      {0, 64},
      {plane + 4 * block_bytes, index_bytes},
      {plane + block_bytes, block_bytes}};
  CHECK(answer.log.reads == expected);
  CHECK(answer.statistics.bytes_read == answer.log.bytes());
  CHECK(answer.statistics.bytes_hashed == index_bytes + block_bytes);
  CHECK(answer.statistics.blocks_verified == 1);
  CHECK(answer.statistics.blocks_decoded == 0);
}

TEST_CASE(
    "lying source: rows of a codebook tensor touch one block of codes and of outliers, the scales and the codebook") {
  const Bytes& file = the_file();
  const Answer answer = ask(file, root_of(file), kCodebook);
  REQUIRE(answer.rows);
  CHECK(answer.log.reads.size() == 9);
  CHECK(answer.statistics.blocks_verified == 4);
  CHECK(answer.statistics.bytes_read == answer.log.bytes());
  // Codes of 256 rows, scales of all 640 rows, 512 bytes of codebook, a few hundred outliers.
  CHECK(answer.log.bytes() < (1 << 18) + 640 * 4 + 512 + 8192);
}

TEST_CASE("lying source: a block that was a lie once stays refused, and the blocks beside it can be read") {
  const Bytes& file = the_file();
  const cdna::Digest root = root_of(file);
  ReadLog log;
  cdna::OpenOptions options;
  options.expected_root = root;
  const auto reader =
      must(cdna::Reader::open(std::make_unique<LyingSource>(file, Lie{6, 1234567, nullptr}, log), options));
  CHECK(reader.trust() == cdna::Trust::strict);
  const cdna::Tensor tensor = reader.find("exact").value();
  Bytes rows(10 * tensor.row_bytes(cdna::DType::u16));
  for (int turn = 0; turn < 3; ++turn) {
    const auto result = tensor.read_rows(300, 310, cdna::DType::u16, rows);
    REQUIRE_FALSE(result);
    CHECK(std::string(result.error().rule) == "B1");
    CHECK(result.error().block == 1);
    CHECK(log.reads.size() == 6);  // Not even read again.
  }
  CHECK(tensor.read_rows(0, 10, cdna::DType::u16, rows).has_value());
  CHECK(std::equal(rows.begin(), rows.end(), file.begin() + static_cast<std::ptrdiff_t>(tensor.plane(0).offset)));
}

TEST_CASE("lying source: a lie in an index is not remembered, for nothing of it was kept") {
  const Bytes& file = the_file();
  ReadLog log;
  const auto reader = must(cdna::Reader::open(std::make_unique<LyingSource>(file, Lie{5, 99, nullptr}, log)));
  const cdna::Tensor tensor = reader.find("exact").value();
  Bytes rows(10 * tensor.row_bytes(cdna::DType::u16));
  const auto first = tensor.read_rows(300, 310, cdna::DType::u16, rows);
  REQUIRE_FALSE(first);
  CHECK(std::string(first.error().rule) == "X1");
  CHECK(tensor.read_rows(300, 310, cdna::DType::u16, rows).has_value());
}

TEST_CASE("lying source: zero-copy is refused without a mapping") {
  ReadLog log;
  cdna::OpenOptions options;
  options.trust = cdna::Trust::zero_copy;
  const auto reader = cdna::Reader::open(std::make_unique<LyingSource>(the_file(), Lie{}, log), options);
  REQUIRE_FALSE(reader);
  CHECK(reader.error().code == cdna::Code::bad_argument);
}
