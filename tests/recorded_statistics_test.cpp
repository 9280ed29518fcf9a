// What Tensor::statistics() says is what was written, and what is not recorded is not made up.
#include <catch2/catch.hpp>
#include <cmath>

#include "libcdna/format/wire.hpp"
#include "sample_file.hpp"

namespace {

using Bytes = std::vector<std::byte>;
using cdna::test::must;
using cdna::test::reader_of;

constexpr std::uint64_t kSeed = 20261121;

// A codebook tensor of several blocks, and an exact one.
struct Written {
  Bytes file;
  cdna::TensorStatistics statistics;
};

Written write_tensors(cdna::Codec codec) {
  INFO("seed " << kSeed);
  cdna::test::Random random(kSeed);
  std::vector<float> values = random.weights(700 * 512);
  for (std::size_t i = 0; i < values.size(); i += 2000) values[i] *= 50;  // Outliers.
  const Bytes data = cdna::test::bytes_of_values(values);
  Written out;
  out.file = cdna::test::write_file({}, [&](cdna::Writer& writer) {
    const std::uint32_t item = must(writer.add_codebook(
        {"codes", cdna::DType::f32, {700, 512}, cdna::Role::embedding, codec}, {}, reader_of(data)));
    must(writer.add_exact({"exact", cdna::DType::f32, {700, 512}, cdna::Role::other, codec}, reader_of(data)));
    out.statistics = writer.written(item).statistics;
  });
  return out;
}

cdna::Reader open_memory(const Bytes& file) { return must(cdna::Reader::open(cdna::memory_source(file))); }

}  // namespace

TEST_CASE("recorded statistics: of codes are those that the writer reported, whatever the codec") {
  for (const cdna::Codec codec : {cdna::Codec::raw, cdna::Codec::zstd, cdna::Codec::brotli}) {
    const Written written = write_tensors(codec);
    const cdna::Reader reader = open_memory(written.file);
    const cdna::Tensor tensor = *reader.find("codes");
    const cdna::TensorStatistics statistics = must(tensor.statistics());
    REQUIRE(tensor.plane(0).block_count > 1);
    CHECK(statistics.sum_squares == written.statistics.sum_squares);
    CHECK(statistics.sum_squared_error == written.statistics.sum_squared_error);
    CHECK(statistics.sum_squares > 0);
    CHECK(statistics.sum_squared_error > 0);
    CHECK(statistics.max_abs_error == tensor.max_abs_error());
    CHECK(statistics.outlier_count == written.statistics.outlier_count);
    CHECK(statistics.outlier_count > 0);
    CHECK(statistics.excess_kurtosis == written.statistics.excess_kurtosis);
    CHECK(statistics.excess_kurtosis > 1);
    CHECK(statistics.code_entropy_bits == written.statistics.code_entropy_bits);
    CHECK(statistics.code_entropy_bits > 7);
  }
}

TEST_CASE("recorded statistics: an exact tensor has no error, no outliers, and unknown moments") {
  const Written written = write_tensors(cdna::Codec::zstd);
  const cdna::Reader reader = open_memory(written.file);
  const cdna::TensorStatistics statistics = must(reader.find("exact")->statistics());
  CHECK(statistics.sum_squares == 0);
  CHECK(statistics.sum_squared_error == 0);
  CHECK(statistics.max_abs_error == 0);
  CHECK(statistics.relative_error() == 0);
  CHECK(statistics.outlier_count == 0);
  CHECK(std::isnan(statistics.excess_kurtosis));
  CHECK(std::isnan(statistics.code_entropy_bits));
}

TEST_CASE("recorded statistics: blocks tell their bounds, of which the tensor's is the greatest") {
  const Written written = write_tensors(cdna::Codec::raw);
  const cdna::Reader reader = open_memory(written.file);
  double greatest = 0;
  cdna::BlockRange blocks = must(reader.find("codes")->blocks());
  for (const cdna::Result<cdna::Block>& block : blocks) {
    REQUIRE(block);
    CHECK(block->max_abs_error > 0);
    greatest = std::max(greatest, block->max_abs_error);
  }
  CHECK(greatest == reader.find("codes")->max_abs_error());
}

TEST_CASE("recorded statistics: a damaged index is an error of its tensor only") {
  Written written = write_tensors(cdna::Codec::raw);
  const std::uint64_t offset = open_memory(written.file).find("codes")->index_offset();
  REQUIRE(offset % 64 == 0);
  written.file[offset + 9] ^= std::byte{1};
  const cdna::Reader reader = open_memory(written.file);
  const auto damaged = reader.find("codes")->statistics();
  REQUIRE_FALSE(damaged);
  CHECK(damaged.error().code == cdna::Code::corrupt);
  CHECK(std::string_view(damaged.error().rule) == "X1");
  CHECK(damaged.error().item == "codes");
  CHECK(reader.find("exact")->statistics());
}

TEST_CASE("recorded statistics: equal tensors have equal index digests, others have not") {
  cdna::test::Random random(kSeed);
  const Bytes same = random.bytes(5000);
  const Bytes other = random.bytes(5000);
  const Bytes file = cdna::test::write_file({}, [&](cdna::Writer& writer) {
    for (const auto& [name, data] : {std::pair{"a", &same}, {"b", &same}, {"c", &other}})
      must(writer.add_exact({name, cdna::DType::u8, {5000}, cdna::Role::other, cdna::Codec::raw}, reader_of(*data)));
  });
  const cdna::Reader reader = open_memory(file);
  CHECK(reader.find("a")->index_digest() == reader.find("b")->index_digest());
  CHECK(reader.find("a")->index_digest() != reader.find("c")->index_digest());
}
