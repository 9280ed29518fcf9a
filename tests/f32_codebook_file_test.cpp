// The file with an F32 codebook that `cdna bench matmul` makes: valid, and with the values that it should have.
#include "tools/bench/f32_codebook_file.hpp"

#include <atomic>
#include <catch2/catch.hpp>
#include <cstring>

#include "cdna/fsck.hpp"
#include "codebook_file.hpp"
#include "temporary_folder.hpp"

using namespace cdna;
using namespace cdna::test;

namespace {

std::vector<float> floats_of(const Tensor& tensor) {
  std::vector<float> out(tensor.element_count());
  const auto read = tensor.read_rows(0, tensor.rows(), DType::f32, std::as_writable_bytes(std::span(out)));
  if (!read) throw std::runtime_error(read.error().describe());
  return out;
}

// Writes the tensor again and returns the path.
std::string rewrite(const EncodedTensor& encoded, const TemporaryFolder& folder) {
  const Reader reader = must(Reader::open(memory_source(encoded.file)));
  const std::atomic<bool> stop{false};
  const std::string path = folder / "f32.cdna";
  tools::bench::write_with_f32_codebook(reader, path, stop);
  return path;
}

}  // namespace

TEST_CASE("f32 codebook file: it is valid, and its entries and values are those of binary16 times 1 + 2^-13") {
  // Several blocks; groups; row scales of 1 MiB, which are aligned to a page.
  using Shape = std::array<std::uint64_t, 3>;
  const auto [rows, cols, group] = GENERATE(Shape{600, 2304, 0}, Shape{33, 130, 64}, Shape{262144, 2, 0});
  CodebookOptions options;
  options.group = static_cast<std::uint32_t>(group);
  const EncodedTensor encoded = encode_tensor(DType::f32, {rows, cols}, heavy_values(7, rows * cols), options);
  const TemporaryFolder folder;
  const std::string path = rewrite(encoded, folder);

  FsckOptions deep;
  deep.level = FsckLevel::deep;
  const FsckReport report = fsck(must(open_source(path)), deep);
  CHECK(report.valid);
  CHECK(report.problems.empty());

  const Reader before = must(Reader::open(memory_source(encoded.file)));
  const Reader after = must(Reader::open(path));
  const Tensor wide = *after.find("x");
  CHECK(wide.plane(1).dtype == DType::f32);
  CHECK(wide.shape()[1] == cols);
  const auto halves = must(before.find("x")->codebook());
  const auto entries = must(wide.codebook());
  REQUIRE(entries.size() == halves.size());
  for (std::size_t i = 0; i < entries.size(); ++i) CHECK(entries[i] == halves[i] * (1 + 0x1p-13F));

  const std::vector<float> old_values = floats_of(*before.find("x"));
  const std::vector<float> values = floats_of(wide);
  std::size_t equal = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i] == old_values[i]) ++equal;  // An outlier.
    // Two roundings of the product and one of the entry, on either side.
    else if (std::abs(values[i] / old_values[i] - (1 + 0x1p-13)) > 0x1p-21)
      FAIL("value " << i);
  }
  CHECK(equal == must(wide.statistics()).outlier_count);
}
