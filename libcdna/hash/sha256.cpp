// SHA-256 through OpenSSL's own functions rather than EVP, whose every EVP_DigestInit_ex2 allocates in OpenSSL 3.0.
#include "libcdna/hash/sha256.hpp"

#define OPENSSL_SUPPRESS_DEPRECATED  // SHA256_Init and its kin: deprecated in favour of EVP, and the only ones that
                                     // never allocate.
#include <openssl/sha.h>

#include <algorithm>
#include <array>

#include "libcdna/hash/sha256_kernel.hpp"

namespace cdna {

Sha256::Sha256() {
  static_assert(sizeof(SHA256_CTX) == kContextBytes && alignof(SHA256_CTX) <= 8);
  SHA256_Init(reinterpret_cast<SHA256_CTX*>(context_));
}

void Sha256::update(std::span<const std::byte> bytes) {
  SHA256_Update(reinterpret_cast<SHA256_CTX*>(context_), bytes.data(), bytes.size());
}

Digest Sha256::finish() {
  Digest digest;
  SHA256_Final(reinterpret_cast<unsigned char*>(digest.data()), reinterpret_cast<SHA256_CTX*>(context_));
  SHA256_Init(reinterpret_cast<SHA256_CTX*>(context_));
  return digest;
}

Digest sha256(std::span<const std::byte> bytes) {
  Sha256 hasher;
  hasher.update(bytes);
  return hasher.finish();
}

namespace {

constexpr std::size_t kBatchPieces = 64;  // 1 MiB: the usual block.

// Hashes whole pieces, many at a time, and hands on their digests. Returns what is left: less than a piece.
template <class Take>
std::span<const std::byte> for_pieces(std::span<const std::byte> bytes, const Take& take) {
  std::array<const unsigned char*, kBatchPieces> pieces;
  std::array<Digest, kBatchPieces> digests;
  while (bytes.size() >= kPieceBytes) {
    const std::size_t count = std::min(bytes.size() / kPieceBytes, kBatchPieces);
    for (std::size_t i = 0; i < count; ++i)
      pieces[i] = reinterpret_cast<const unsigned char*>(bytes.data()) + i * kPieceBytes;
    const Sha256Kernel kernel = count < least_count(sha256_kernel()) ? Sha256Kernel::openssl : sha256_kernel();
    sha256_many(kernel, std::span(pieces).first(count), kPieceBytes, std::span(digests).first(count));
    take(std::span<const Digest>(digests).first(count));
    bytes = bytes.subspan(count * kPieceBytes);
  }
  return bytes;
}

std::span<const std::byte> hash_pieces(std::span<const std::byte> bytes, Sha256& outer) {
  return for_pieces(bytes, [&outer](std::span<const Digest> digests) { outer.update(std::as_bytes(digests)); });
}

}  // namespace

Digest bulk_digest(std::span<const std::byte> bytes) {
  Sha256 outer;
  const std::span<const std::byte> rest = hash_pieces(bytes, outer);
  if (!rest.empty()) outer.update(sha256(rest));
  return outer.finish();
}

void append_piece_digests(std::span<const std::byte> bytes, std::vector<Digest>& digests) {
  const std::span<const std::byte> rest = for_pieces(
      bytes, [&digests](std::span<const Digest> some) { digests.insert(digests.end(), some.begin(), some.end()); });
  if (!rest.empty()) digests.push_back(sha256(rest));
}

void BulkHasher::update(std::span<const std::byte> bytes) {
  if (piece_fill_ == 0) bytes = hash_pieces(bytes, outer_);
  while (!bytes.empty()) {
    const std::size_t size = std::min(bytes.size(), kPieceBytes - piece_fill_);
    piece_.update(bytes.first(size));
    bytes = bytes.subspan(size);
    piece_fill_ += size;
    if (piece_fill_ < kPieceBytes) continue;
    outer_.update(piece_.finish());
    piece_fill_ = 0;
    bytes = hash_pieces(bytes, outer_);
  }
}

Digest BulkHasher::finish() {
  if (piece_fill_ != 0) outer_.update(piece_.finish());
  piece_fill_ = 0;
  return outer_.finish();
}

}  // namespace cdna
