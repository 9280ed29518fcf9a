// Tensors in byte planes.
#include <algorithm>
#include <catch2/catch.hpp>
#include <vector>

#include "cdna/fsck.hpp"
#include "sample_file.hpp"

namespace {

using Bytes = std::vector<std::byte>;
using cdna::Code;
using cdna::Codec;
using cdna::DType;
using cdna::Filter;
using cdna::test::must;

constexpr std::uint64_t kSeed = 4101;

constexpr DType kFloats[] = {DType::f16, DType::bf16, DType::f32, DType::f64};

cdna::TensorSpec spec_of(std::string name, DType dtype, std::vector<std::uint64_t> shape, Codec codec = Codec::zstd) {
  return {std::move(name), dtype, std::move(shape), cdna::Role::matrix, codec, Filter::byte_planes};
}

// Elements of which all but the upper exponent bits are noise, or all.
Bytes elements_of(cdna::test::Random& random, DType dtype, std::size_t count, bool noise) {
  const std::size_t element_bytes = cdna::bits_of(dtype) / 8;
  Bytes bytes = random.bytes(count * element_bytes);
  for (std::size_t i = element_bytes - 1; !noise && i < bytes.size(); i += element_bytes)
    bytes[i] = (bytes[i] & std::byte{0x83}) | std::byte{0x3C};
  return bytes;
}

struct Source {
  std::vector<std::uint64_t> shape;
  Bytes bytes;
};

// Each shape with bytes that compress and bytes that do not.
std::vector<Source> sources_of(DType dtype) {
  const std::vector<std::vector<std::uint64_t>> shapes{
      {}, {0}, {1}, {7}, {4, 0}, {33, 127}, {2, 3, 64}, {1500, 512}, {1, 100'001}, {2, 1, 2, 3, 1, 2, 2, 3}};
  cdna::test::Random random(kSeed + static_cast<std::uint64_t>(dtype));
  std::vector<Source> sources;
  for (const auto& shape : shapes) {
    std::size_t count = 1;
    for (const std::uint64_t dim : shape) count *= dim;
    for (const bool noise : {false, true}) sources.push_back({shape, elements_of(random, dtype, count, noise)});
  }
  return sources;
}

Bytes file_of(DType dtype, const std::vector<Source>& sources, unsigned threads) {
  cdna::WriterOptions options;
  options.threads = threads;
  return cdna::test::write_file(options, [&](cdna::Writer& writer) {
    for (std::size_t i = 0; i < sources.size(); ++i)
      must(writer.add_exact(spec_of(std::to_string(i), dtype, sources[i].shape),
                            cdna::test::reader_of(sources[i].bytes)));
  });
}

Code refusal_of(const cdna::TensorSpec& spec, bool codebook = false) {
  Bytes out;
  cdna::Writer writer = must(cdna::Writer::create(cdna::memory_sink(out)));
  const cdna::ByteReader zeros = [](std::uint64_t, std::span<std::byte> to) -> cdna::Result<void> {
    std::fill(to.begin(), to.end(), std::byte{0});
    return {};
  };
  const auto result = codebook ? writer.add_codebook(spec, {}, zeros) : writer.add_exact(spec, zeros);
  REQUIRE_FALSE(result);
  return result.error().code;
}

}  // namespace

TEST_CASE("byte planes: tensors come back bit for bit, whatever their values and shapes") {
  INFO("seed " << kSeed);
  for (const DType dtype : kFloats) {
    const std::vector<Source> sources = sources_of(dtype);
    const Bytes file = file_of(dtype, sources, 1);
    CHECK((file_of(dtype, sources, 3) == file));
    cdna::FsckOptions deep;
    deep.level = cdna::FsckLevel::deep;
    CHECK(cdna::fsck(cdna::memory_source(file), deep).valid);
    for (const bool mapped : {true, false}) {
      const cdna::Reader reader = must(cdna::Reader::open(cdna::memory_source(file, mapped)));
      for (std::uint32_t i = 0; i < sources.size(); ++i) {
        INFO(cdna::name_of(dtype) << " tensor " << i << (mapped ? ", mapped" : ", read"));
        const cdna::Tensor tensor = reader.find(std::to_string(i)).value();
        CHECK((must(cdna::test::read_item(reader, tensor.number())) == sources[i].bytes));
        // What compresses, and is large enough for a frame to be worth its header, is in byte planes. The rest is raw.
        const bool in_planes = i % 2 == 0 && sources[i].bytes.size() > 1000;
        const bool raw = i % 2 == 1 || sources[i].bytes.size() < 64;
        const std::uint32_t filters = must(tensor.filters(0));
        if (in_planes) CHECK(filters == 2);
        if (raw) CHECK(filters == (sources[i].bytes.empty() ? 0 : 1));
        CHECK(filters / 2 == tensor.plane(0).codecs / 2);
        if (in_planes) CHECK(tensor.contiguous().error().code == Code::bad_argument);
      }
    }
  }
}

TEST_CASE("byte planes: the writer refuses them without zstd, for other dtypes, and for codebooks") {
  for (std::uint8_t id = 1; id <= cdna::kDTypeLast; ++id) {
    const auto dtype = static_cast<DType>(id);
    INFO(cdna::name_of(dtype));
    if (!cdna::is_float(dtype)) CHECK(refusal_of(spec_of("x", dtype, {8, 8})) == Code::bad_argument);
  }
  CHECK(refusal_of(spec_of("x", DType::f16, {8, 8}, Codec::raw)) == Code::bad_argument);
  CHECK(refusal_of(spec_of("x", DType::f16, {8, 8}, Codec::brotli)) == Code::bad_argument);
  CHECK(refusal_of(spec_of("x", DType::f16, {8, 8}), true) == Code::bad_argument);
  cdna::TensorSpec unknown = spec_of("x", DType::f16, {8, 8});
  unknown.filter = static_cast<Filter>(2);
  CHECK(refusal_of(unknown) == Code::bad_argument);
}
