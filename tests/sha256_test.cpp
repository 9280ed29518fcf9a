// H, D and the multi-message kernels against OpenSSL, every kernel that this machine has.
#include "libcdna/hash/sha256.hpp"

#include <openssl/evp.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "libcdna/hash/sha256_kernel.hpp"

namespace {

using cdna::Digest;

Digest openssl_digest(std::span<const std::byte> bytes) {
  Digest digest;
  REQUIRE(EVP_Digest(bytes.data(), bytes.size(), reinterpret_cast<unsigned char*>(digest.data()), nullptr, EVP_sha256(),
                     nullptr) == 1);
  return digest;
}

std::vector<std::byte> random_bytes(std::size_t size, std::uint64_t seed) {
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  std::vector<std::byte> bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

// spec/format.md, section 4, from OpenSSL alone.
Digest expected_bulk_digest(std::span<const std::byte> bytes) {
  std::vector<std::byte> digests;
  for (std::size_t at = 0; at < bytes.size(); at += 16384) {
    const Digest digest = openssl_digest(bytes.subspan(at, std::min<std::size_t>(16384, bytes.size() - at)));
    const auto piece = std::as_bytes(std::span(digest));
    digests.insert(digests.end(), piece.begin(), piece.end());
  }
  return openssl_digest(digests);
}

// `count` messages of `size` bytes, at places that are not aligned, then compared one by one.
void compare(cdna::Sha256Kernel kernel, std::size_t count, std::size_t size, std::span<const std::byte> bytes) {
  std::vector<const unsigned char*> messages;
  for (std::size_t i = 0; i < count; ++i)
    messages.push_back(reinterpret_cast<const unsigned char*>(bytes.data()) + i * 37);
  std::vector<Digest> digests(count + 1);
  digests[count].fill(std::remove_reference_t<decltype(digests[0][0])>{0x5A});
  const Digest guard = digests[count];
  cdna::sha256_many(kernel, messages, size, std::span(digests).first(count));
  for (std::size_t i = 0; i < count; ++i) {
    INFO(cdna::name_of(kernel) << ": message " << i << " of " << count << ", " << size << " bytes");
    REQUIRE(digests[i] == openssl_digest(std::as_bytes(std::span(messages[i], size))));
  }
  REQUIRE(digests[count] == guard);
}

}  // namespace

TEST_CASE("sha256: every kernel equals OpenSSL for every length from 0 to 300 and every count up to 17") {
  const std::vector<std::byte> bytes = random_bytes(300 + 37 * 40, 1);
  for (const cdna::Sha256Kernel kernel : cdna::kSha256Kernels) {
    if (!cdna::is_available(kernel)) continue;
    for (std::size_t size = 0; size <= 300; ++size) {
      compare(kernel, 33, size, bytes);
      compare(kernel, 1 + size % 17, size, bytes);
    }
    for (std::size_t count = 0; count <= 17; ++count) compare(kernel, count, 64, bytes);
  }
}

TEST_CASE("sha256: every kernel equals OpenSSL for random lengths") {
  const std::vector<std::byte> bytes = random_bytes(70000 + 37 * 40, 2);
  std::mt19937_64 random(3);
  for (const cdna::Sha256Kernel kernel : cdna::kSha256Kernels) {
    if (!cdna::is_available(kernel)) continue;
    for (int i = 0; i < 60; ++i) compare(kernel, 1 + random() % 40, random() % 70000, bytes);
    compare(kernel, 33, 16384, bytes);
  }
}

TEST_CASE("sha256: one message has the digest that FIPS 180-4 gives as an example") {
  const std::string text = "abc";
  const Digest digest = cdna::sha256(std::as_bytes(std::span(text)));
  REQUIRE(cdna::to_hex(digest) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST_CASE("sha256: D is the digest of the pieces' digests, at once and in parts of any size") {
  const std::vector<std::byte> bytes = random_bytes((std::size_t{3} << 20) + 16384 + 5, 4);
  std::mt19937_64 random(5);
  std::vector<std::size_t> sizes{0,     1,     16383,    16384,          16385,       32768,
                                 49152, 65536, 1U << 20, (1U << 20) + 1, bytes.size()};
  for (int i = 0; i < 30; ++i) sizes.push_back(random() % bytes.size());
  for (const std::size_t size : sizes) {
    const auto part = std::span<const std::byte>(bytes).first(size);
    INFO(size << " bytes");
    const Digest expected = expected_bulk_digest(part);
    REQUIRE(cdna::bulk_digest(part) == expected);
    cdna::BulkHasher hasher;
    for (std::size_t at = 0; at < size;) {
      const std::size_t step = std::min<std::size_t>(size - at, 1 + random() % (random() % 2 == 0 ? 100000 : 20000));
      hasher.update(part.subspan(at, step));
      at += step;
    }
    REQUIRE(hasher.finish() == expected);
  }
}

TEST_CASE("sha256: the kernel in use is available, and is the one that CDNA_SHA256 names") {
  const cdna::Sha256Kernel kernel = cdna::sha256_kernel();
  REQUIRE(cdna::is_available(kernel));
  INFO("kernel in use: " << cdna::name_of(kernel));
  const char* const wanted = std::getenv("CDNA_SHA256");
  if (wanted == nullptr) {
    REQUIRE(cdna::check_sha256_kernel());
    return;
  }
  const bool named = wanted == cdna::name_of(kernel);
  REQUIRE(cdna::check_sha256_kernel().has_value() == named);
  if (!named) {
    const auto result = cdna::check_sha256_kernel();
    REQUIRE(result.error().code == cdna::Code::bad_argument);
    REQUIRE(result.error().describe().find(wanted) != std::string::npos);
  }
}
