// SHA-256 through OpenSSL's own functions rather than EVP, whose every EVP_DigestInit_ex2 allocates in OpenSSL 3.0.
#include "libcdna/hash/sha256.hpp"

#define OPENSSL_SUPPRESS_DEPRECATED  // SHA256_Init and its kin: deprecated in favour of EVP, and the only ones that
                                     // never allocate.
#include <openssl/sha.h>

#include <algorithm>

namespace cdna {
namespace {

Sha256& thread_hasher() {
  thread_local Sha256 hasher;
  return hasher;
}

Sha256& thread_outer_hasher() {
  thread_local Sha256 hasher;
  return hasher;
}

}  // namespace

Sha256::Sha256() : context_(new SHA256_CTX) { SHA256_Init(context_); }

Sha256::~Sha256() { delete context_; }

void Sha256::update(std::span<const std::byte> bytes) { SHA256_Update(context_, bytes.data(), bytes.size()); }

Digest Sha256::finish() {
  Digest digest;
  SHA256_Final(reinterpret_cast<unsigned char*>(digest.data()), context_);
  SHA256_Init(context_);
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
