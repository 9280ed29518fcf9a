// Tests of the parts of HXQ modules against what a Reader decodes and what was written.
#include "libcdna/convert/hxq_parts.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "cdna/encode.hpp"
#include "sample_file.hpp"
#include "tensor_file.hpp"

using namespace cdna;
using namespace cdna::test;

namespace {

// A part of a module, in the pieces that it is written in.
struct WrittenPart {
  std::vector<std::byte> bytes;
  std::size_t largest_piece = 0;
};

std::map<std::string, WrittenPart> parts_of(const Tensor& tensor) {
  std::string reason;
  const auto parts = must(HxqParts::of(tensor, "x.weight", reason));
  INFO(reason);
  REQUIRE(parts);
  std::map<std::string, WrittenPart> written;
  for (std::size_t i = 0; i < parts->parts().size(); ++i) {
    WrittenPart& part = written[parts->parts()[i].name];
    const auto sink = [&](std::span<const std::byte> bytes) -> Result<void> {
      part.bytes.insert(part.bytes.end(), bytes.begin(), bytes.end());
      part.largest_piece = std::max(part.largest_piece, bytes.size());
      return {};
    };
    REQUIRE(parts->write(i, sink));
  }
  return written;
}

template <class T>
std::vector<T> numbers_of(const WrittenPart& part) {
  std::vector<T> numbers(part.bytes.size() / sizeof(T));
  std::memcpy(numbers.data(), part.bytes.data(), part.bytes.size());
  return numbers;
}

// What a loader makes of indices, codebook and sidecar.
template <class Code>
std::vector<float> values_of(std::map<std::string, WrittenPart> parts, std::size_t vector) {
  const auto codebook = numbers_of<float>(parts[".codebook"]);
  std::vector<float> values;
  for (const Code code : numbers_of<Code>(parts[".indices"])) {
    for (std::size_t k = 0; k < vector; ++k) values.push_back(codebook[code * vector + k]);
  }
  const auto positions = numbers_of<std::uint64_t>(parts[".sidecar_positions"]);
  const auto outliers = numbers_of<float>(parts[".sidecar_values"]);
  REQUIRE(positions.size() == outliers.size());
  for (std::size_t i = 0; i < positions.size(); ++i) values.at(positions[i]) = outliers[i];
  return values;
}

std::vector<float> read_floats(const Tensor& tensor) {
  std::vector<float> values(tensor.element_count());
  REQUIRE(tensor.read_rows(0, tensor.rows(), DType::f32, std::as_writable_bytes(std::span(values))));
  return values;
}

}  // namespace

TEST_CASE("HXQ parts: outliers of rows that are cut into pieces keep their places") {
  const Reader reader = must(Reader::open(CDNA_SOURCE_DIR "/spec/vectors/good/cut_codes.cdna"));
  const Tensor given = reader.find("cut").value();
  REQUIRE(given.plane(0).rows_per_block == 0);
  const auto given_parts = parts_of(given);
  CHECK(given_parts.contains(".sidecar_positions"));
  CHECK((values_of<std::uint8_t>(given_parts, 1) == read_floats(given)));
  const auto positions = numbers_of<std::uint64_t>(given_parts.at(".sidecar_positions"));
  const auto is_behind_cut = [&](std::uint64_t position) { return position % given.cols() >= 1 << 20; };
  CHECK(std::any_of(positions.begin(), positions.end(), is_behind_cut));
  CHECK_FALSE(std::all_of(positions.begin(), positions.end(), is_behind_cut));
  CHECK(std::is_sorted(positions.begin(), positions.end()));
}

TEST_CASE("HXQ parts: cut rows with outliers at both ends of each piece") {
  constexpr std::uint64_t kPiece = 1 << 20;
  CodebookPlanes planes;
  planes.rows = 2;
  planes.cols = kPiece + 24;
  planes.bits = 2;
  planes.codebook = {1, 2, 3, 4};
  planes.outlier_dtype = DType::f32;
  for (std::uint64_t i = 0; i < planes.rows * planes.cols; ++i)
    planes.codes.push_back(static_cast<std::uint16_t>(i * 37 % 251 % 4));
  std::vector<std::uint64_t> positions;
  for (const std::uint64_t row : {std::uint64_t{0}, std::uint64_t{1}}) {
    for (const std::uint64_t column : {std::uint64_t{0}, kPiece - 1, kPiece, kPiece + 23})
      positions.push_back(row * planes.cols + column);
  }
  for (const std::uint64_t position : positions) planes.outliers[position] = 10 + static_cast<double>(position % 7);
  TensorFile made;
  made.add("w", planes, {.rows_per_block = 0});
  const auto file = made.finish();
  const Reader reader = must(Reader::open(memory_source(file)));
  const Tensor tensor = reader.find("w").value();
  REQUIRE(tensor.plane(0).block_count == 4);
  const auto parts = parts_of(tensor);
  CHECK((values_of<std::uint8_t>(parts, 1) == read_floats(tensor)));
  CHECK(numbers_of<std::uint64_t>(parts.at(".sidecar_positions")) == positions);
}

TEST_CASE("HXQ parts: low rank and column scales are written as they are, the left matrix by blocks") {
  constexpr std::uint64_t kRows = 3000;
  constexpr std::uint64_t kRank = 700;
  constexpr std::uint64_t kCols = 1536;
  const std::vector<float> codebook = {1, 2};
  const std::vector<std::byte> codes(kRows * kCols / 8);
  std::vector<float> left(kRows * kRank), factors(kRank), right(kRank * kCols), scales(kCols);
  float next = 1;
  for (std::vector<float>* const plane : {&left, &factors, &right, &scales}) {
    for (float& number : *plane) number = next++;
  }
  EncodedPlanes planes;
  planes.bits = 1;
  planes.codebook = codebook;
  planes.codes = codes;
  planes.low_rank_left = left;
  planes.low_rank_factors = factors;
  planes.low_rank_right = right;
  planes.column_scales = scales;
  const auto file = write_file({}, [&](Writer& writer) {
    must(writer.add_encoded({"w", DType::f32, {kRows, kCols}, Role::matrix, Codec::zstd}, planes));
  });
  const Reader reader = must(Reader::open(memory_source(file)));
  auto parts = parts_of(reader.find("w").value());
  CHECK((numbers_of<float>(parts[".svd_U"]) == left));
  CHECK((numbers_of<float>(parts[".svd_s"]) == factors));
  CHECK((numbers_of<float>(parts[".svd_Vt"]) == right));
  CHECK((numbers_of<float>(parts[".channel_scales"]) == scales));
  CHECK(parts[".svd_U"].largest_piece < left.size() * sizeof(float));
}
