// Block codecs: round trips, and what rules C1 to C4 refuse.
#include "libcdna/codec/codec.hpp"

#include <catch2/catch.hpp>
#include <random>
#include <string>

namespace {

using cdna::BlockCoding;
using cdna::Codec;

std::vector<std::byte> compressible(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i % 5 == 0 ? random() % 256 : i / 64 % 7);
  return bytes;
}

std::string rule_of(const BlockCoding& codec, const std::vector<std::byte>& stored, std::size_t decoded_length) {
  cdna::BlockDecoder decoder;
  std::vector<std::byte> out(decoded_length);
  const auto result = decoder.decode(codec, stored, out);
  return result ? "ok" : result.error().rule;
}

// Elements with noise in all bits but the upper exponent bits: the sign, then 0 1111 111.
std::vector<std::byte> one_exponent(std::size_t element_bytes, std::size_t count) {
  std::mt19937 random(23);
  std::vector<std::byte> bytes(element_bytes * count);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const std::size_t from_top = element_bytes - 1 - i % element_bytes;
    unsigned value = random() % 256;
    if (from_top == 0) value = (value & 0x80U) | 0x3FU;
    if (from_top == 1) value |= 0x80U;
    bytes[i] = static_cast<std::byte>(value);
  }
  return bytes;
}

// A zstd frame of run-length blocks of at most `block` bytes: single segment, 4-byte content size.
std::vector<std::byte> run_length_frame(std::uint32_t length, std::uint32_t block) {
  std::vector<std::byte> frame;
  const auto put = [&frame](std::uint32_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) frame.push_back(static_cast<std::byte>(value >> (8 * i) & 255));
  };
  put(0xFD2FB528, 4);
  put(0xA0, 1);
  put(length, 4);
  while (length > 0) {
    const std::uint32_t size = std::min(length, block);
    length -= size;
    put(size << 3 | 2 | (length == 0 ? 1U : 0U), 3);
    put(7, 1);
  }
  return frame;
}

}  // namespace

TEST_CASE("codec: blocks come back, and one decoder serves many") {
  cdna::BlockDecoder decoder;
  for (const Codec codec : {Codec::zstd, Codec::brotli}) {
    for (const std::size_t size : {64U, 1000U, 65536U, 1U << 20, (1U << 20) + 1, 3U << 20}) {
      const std::vector<std::byte> decoded = compressible(size, 7);
      std::vector<std::byte> stored;
      REQUIRE(cdna::BlockEncoder().compress(codec, decoded, stored));
      CHECK(stored.size() * 100 <= decoded.size() * 97);
      std::vector<std::byte> out(size);
      REQUIRE(decoder.decode(codec, stored, out));
      CHECK(out == decoded);
    }
  }
}

TEST_CASE("codec: blocks in byte planes come back, in the layout of section 12.1") {
  cdna::BlockDecoder decoder;
  cdna::BlockEncoder encoder;
  for (const std::size_t element_bytes : {2U, 4U, 8U}) {
    const BlockCoding coding = BlockCoding::byte_planes(element_bytes);
    for (const std::size_t count : {40U, 1000U, 65537U, (1U << 20) / 8}) {
      INFO(count << " elements of " << element_bytes << " bytes");
      const std::vector<std::byte> decoded = one_exponent(element_bytes, count);
      std::vector<std::byte> stored;
      REQUIRE(encoder.compress(coding, decoded, stored));
      const std::size_t raw_bytes = decoded.size() - count;
      REQUIRE(stored.size() > raw_bytes);
      // The frame alone is one of zstd, of `count` bytes that are all the same.
      const std::vector<std::byte> frame(stored.begin() + static_cast<std::ptrdiff_t>(raw_bytes), stored.end());
      std::vector<std::byte> last(count);
      REQUIRE(decoder.decode(Codec::zstd, frame, last));
      CHECK(last == std::vector<std::byte>(count, std::byte{0x7F}));
      std::vector<std::byte> out(decoded.size());
      REQUIRE(decoder.decode(coding, stored, out));
      CHECK(out == decoded);
    }
  }
}

TEST_CASE("codec: what is damaged in byte planes is C1 or C2") {
  const std::vector<std::byte> decoded = one_exponent(4, 300);
  const BlockCoding coding = BlockCoding::byte_planes(4);
  std::vector<std::byte> stored;
  REQUIRE(cdna::BlockEncoder().compress(coding, decoded, stored));
  CHECK(rule_of(coding, stored, decoded.size()) == "ok");
  for (std::size_t size = 901; size < stored.size(); ++size)
    CHECK(rule_of(coding, {stored.begin(), stored.begin() + static_cast<std::ptrdiff_t>(size)}, 1200) != "ok");
  std::vector<std::byte> longer = stored;
  longer.push_back(std::byte{0});
  CHECK(rule_of(coding, longer, decoded.size()) == "C2");
  CHECK(rule_of(coding, stored, decoded.size() - 4) == "C1");
  CHECK(rule_of(coding, stored, decoded.size() + 4) == "C1");
}

TEST_CASE("codec: a gain below 3 percent is not taken") {
  std::mt19937 random(3);
  std::vector<std::byte> noise(65536);
  for (std::byte& byte : noise) byte = static_cast<std::byte>(random() % 256);
  std::vector<std::byte> stored;
  for (const Codec codec : {Codec::raw, Codec::zstd, Codec::brotli})
    CHECK_FALSE(cdna::BlockEncoder().compress(codec, noise, stored));
  CHECK_FALSE(cdna::BlockEncoder().compress(Codec::zstd, {}, stored));
  for (const std::size_t element_bytes : {2U, 4U, 8U})
    CHECK_FALSE(cdna::BlockEncoder().compress(BlockCoding::byte_planes(element_bytes), noise, stored));
  CHECK_FALSE(cdna::BlockEncoder().compress(BlockCoding::byte_planes(2), {}, stored));
}

TEST_CASE("codec: every proper prefix, a longer block and another length are refused") {
  for (const Codec codec : {Codec::zstd, Codec::brotli}) {
    const std::vector<std::byte> decoded = compressible(3000, 11);
    std::vector<std::byte> stored;
    REQUIRE(cdna::BlockEncoder().compress(codec, decoded, stored));
    for (std::size_t size = 1; size < stored.size(); ++size) {
      CHECK(rule_of(codec, {stored.begin(), stored.begin() + static_cast<std::ptrdiff_t>(size)}, decoded.size()) !=
            "ok");
    }
    std::vector<std::byte> longer = stored;
    longer.push_back(std::byte{0});
    CHECK(rule_of(codec, longer, decoded.size()) == (codec == Codec::zstd ? "C2" : "C4"));
    CHECK(rule_of(codec, stored, decoded.size() - 1) != "ok");
    CHECK(rule_of(codec, stored, decoded.size() + 1) != "ok");
  }
}

TEST_CASE("codec: zstd blocks over Block_Maximum_Size are refused whatever the library's version") {
  CHECK(rule_of(Codec::zstd, run_length_frame(200000, 131072), 200000) == "ok");
  CHECK(rule_of(Codec::zstd, run_length_frame(200000, 131073), 200000) == "C2");
  CHECK(rule_of(Codec::zstd, run_length_frame(5000, 5000), 5000) == "ok");
}

TEST_CASE("codec: a brotli window beyond the block is refused before the decoder sees it") {
  // 51 bytes of this kind make an unbounded decoder take 16 MiB; WBITS 24 for a block of 100 bytes.
  const std::vector<std::byte> wide{std::byte{0x0F}, std::byte{0x03}};
  CHECK(rule_of(Codec::brotli, wide, 100) == "C3");
  const std::vector<std::byte> large_window{std::byte{0x11}, std::byte{0x03}};
  CHECK(rule_of(Codec::brotli, large_window, 1U << 24) == "C3");
}
