// Byte planes: every kernel against the definition in spec/format.md, 12.1, one element at a time; and tensors in them.
#include "libcdna/codec/byte_planes.hpp"

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
using cdna::Isa;
using cdna::test::must;

constexpr std::uint64_t kSeed = 4101;
constexpr std::byte kGuard{0xA5};

// All planes, one after the other, by arithmetic on 64-bit numbers.
Bytes expected_planes(std::size_t element_bytes, std::span<const std::byte> elements) {
  const std::size_t count = elements.size() / element_bytes;
  const std::size_t bits = 8 * element_bytes;
  Bytes planes(elements.size());
  for (std::size_t i = 0; i < count; ++i) {
    std::uint64_t word = 0;
    for (std::size_t k = 0; k < element_bytes; ++k)
      word |= std::to_integer<std::uint64_t>(elements[i * element_bytes + k]) << (8 * k);
    const std::uint64_t sign = word >> (bits - 1);
    const std::uint64_t rotated = (word - (sign << (bits - 1))) * 2 + sign;
    for (std::size_t k = 0; k < element_bytes; ++k)
      planes[k * count + i] = static_cast<std::byte>(rotated >> (8 * k) & 255U);
  }
  return planes;
}

// Memory of `size` bytes that begins at an odd address, between guards.
struct Guarded {
  explicit Guarded(std::size_t size) : memory(size + 64 + 1, kGuard) {}
  std::span<std::byte> bytes() {
    const std::size_t begin = reinterpret_cast<std::uintptr_t>(memory.data()) % 2 == 0 ? 33 : 32;
    return std::span(memory).subspan(begin, memory.size() - 65);
  }
  bool intact() {
    const auto inside = bytes();
    const auto is_guard = [](std::byte byte) { return byte == kGuard; };
    return std::all_of(memory.data(), inside.data(), is_guard) &&
           std::all_of(inside.data() + inside.size(), memory.data() + memory.size(), is_guard);
  }
  Bytes memory;
};

void check(Isa isa, std::size_t element_bytes, std::size_t count, std::span<const std::byte> noise) {
  INFO(cdna::name_of(isa) << ", " << count << " elements of " << element_bytes << " bytes, seed " << kSeed);
  const std::span<const std::byte> elements = noise.subspan(count % 7, count * element_bytes);
  const Bytes expected = expected_planes(element_bytes, elements);
  const std::size_t raw = elements.size() - count;

  Guarded planes(raw);
  Guarded last(count);
  cdna::split_byte_planes(isa, element_bytes, elements, planes.bytes(), last.bytes());
  REQUIRE((planes.intact() && last.intact()));
  REQUIRE(std::equal(expected.begin(), expected.begin() + static_cast<std::ptrdiff_t>(raw), planes.bytes().data()));
  REQUIRE(std::equal(expected.begin() + static_cast<std::ptrdiff_t>(raw), expected.end(), last.bytes().data()));

  Guarded joined(elements.size());
  cdna::join_byte_planes(isa, element_bytes, planes.bytes(), last.bytes(), joined.bytes());
  REQUIRE(joined.intact());
  REQUIRE(std::equal(elements.begin(), elements.end(), joined.bytes().data()));

  Guarded in_place(elements.size());
  std::copy(expected.begin() + static_cast<std::ptrdiff_t>(raw), expected.end(), in_place.bytes().data() + raw);
  cdna::join_byte_planes(isa, element_bytes, planes.bytes(), in_place.bytes().subspan(raw), in_place.bytes());
  REQUIRE(in_place.intact());
  REQUIRE(std::equal(elements.begin(), elements.end(), in_place.bytes().data()));
}

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

TEST_CASE("byte planes: every kernel splits and joins as the format says, at every place and for every count") {
  cdna::test::Random random(kSeed);
  const Bytes noise = random.bytes(8 * 70000 + 7);
  std::vector<std::size_t> counts;
  for (std::size_t count = 0; count <= 300; ++count) counts.push_back(count);
  for (int i = 0; i < 12; ++i) counts.push_back(301 + random.below(70000 - 301));
  for (const Isa isa : cdna::kIsas) {
    if (!cdna::is_available(isa)) continue;
    for (const std::size_t element_bytes : {2U, 4U, 8U}) {
      for (const std::size_t count : counts) check(isa, element_bytes, count, noise);
    }
  }
}
