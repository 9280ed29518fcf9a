// Byte planes: every kernel against the definition in spec/format.md, 12.1, one element at a time.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <span>
#include <vector>

#include "libcdna/codec/byte_planes.hpp"
#include "random.hpp"

namespace {

using Bytes = std::vector<std::byte>;
using cdna::Isa;

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

}  // namespace

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
