// Block codecs: round trips, and what rules C1 to C4 refuse.
#include "libcdna/codec/codec.hpp"

#include <catch2/catch.hpp>
#include <random>
#include <string>

namespace {

using cdna::Codec;

std::vector<std::byte> compressible(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i % 5 == 0 ? random() % 256 : i / 64 % 7);
  return bytes;
}

std::string rule_of(Codec codec, const std::vector<std::byte>& stored, std::size_t decoded_length) {
  cdna::BlockDecoder decoder;
  std::vector<std::byte> out(decoded_length);
  const auto result = decoder.decode(codec, stored, out);
  return result ? "ok" : result.error().rule;
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

TEST_CASE("codec: a gain below 3 percent is not taken") {
  std::mt19937 random(3);
  std::vector<std::byte> noise(65536);
  for (std::byte& byte : noise) byte = static_cast<std::byte>(random() % 256);
  std::vector<std::byte> stored;
  for (const Codec codec : {Codec::raw, Codec::zstd, Codec::brotli})
    CHECK_FALSE(cdna::BlockEncoder().compress(codec, noise, stored));
  CHECK_FALSE(cdna::BlockEncoder().compress(Codec::zstd, {}, stored));
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
