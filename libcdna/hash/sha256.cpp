// SHA-256 through OpenSSL's EVP, with the algorithm fetched once and contexts reused.
#include "libcdna/hash/sha256.hpp"

#include <openssl/evp.h>

#include <algorithm>
#include <new>

namespace cdna {
namespace {

// Fetching costs microseconds and a lock; the object is immutable and lives as long as the process.
const EVP_MD* sha256_algorithm() {
  static EVP_MD* const algorithm = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  return algorithm;
}

Sha256& thread_hasher() {
  thread_local Sha256 hasher;
  return hasher;
}

Sha256& thread_outer_hasher() {
  thread_local Sha256 hasher;
  return hasher;
}

}  // namespace

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  if (context_ != nullptr && EVP_DigestInit_ex2(context_, sha256_algorithm(), nullptr) == 1) return;
  EVP_MD_CTX_free(context_);
  throw std::bad_alloc();
}

Sha256::~Sha256() { EVP_MD_CTX_free(context_); }

void Sha256::update(std::span<const std::byte> bytes) { EVP_DigestUpdate(context_, bytes.data(), bytes.size()); }

Digest Sha256::finish() {
  Digest digest;
  EVP_DigestFinal_ex(context_, reinterpret_cast<unsigned char*>(digest.data()), nullptr);
  EVP_DigestInit_ex2(context_, nullptr, nullptr);  // Same algorithm again: resets the state, allocates nothing.
  return digest;
}

Digest sha256(std::span<const std::byte> bytes) {
  Sha256& hasher = thread_hasher();
  hasher.update(bytes);
  return hasher.finish();
}

Digest bulk_digest(std::span<const std::byte> bytes) {
  Sha256& outer = thread_outer_hasher();
  while (!bytes.empty()) {
    const std::size_t size = std::min(bytes.size(), kPieceBytes);
    outer.update(sha256(bytes.first(size)));
    bytes = bytes.subspan(size);
  }
  return outer.finish();
}

void BulkHasher::update(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const std::size_t size = std::min(bytes.size(), kPieceBytes - piece_fill_);
    piece_.update(bytes.first(size));
    bytes = bytes.subspan(size);
    piece_fill_ += size;
    if (piece_fill_ == kPieceBytes) {
      outer_.update(piece_.finish());
      piece_fill_ = 0;
    }
  }
}

Digest BulkHasher::finish() {
  if (piece_fill_ != 0) outer_.update(piece_.finish());
  piece_fill_ = 0;
  return outer_.finish();
}

}  // namespace cdna
