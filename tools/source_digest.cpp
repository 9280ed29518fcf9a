// SHA-256 of the SHA-256 digests of pieces of 16 KiB, by OpenSSL alone.
#include "tools/source_digest.hpp"

#include <openssl/evp.h>
#include <openssl/sha.h>

#include <algorithm>
#include <new>

namespace cdna::tools {
namespace {

constexpr std::size_t kPieceBytes = 16384;

const unsigned char* data_of(std::span<const std::byte> bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

}  // namespace

struct SourceDigest::Outer {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  Outer() = default;
  Outer(const Outer&) = delete;
  Outer& operator=(const Outer&) = delete;
  ~Outer() { EVP_MD_CTX_free(context); }
};

SourceDigest::SourceDigest() : outer_(std::make_unique<Outer>()) {
  if (outer_->context == nullptr || EVP_DigestInit_ex(outer_->context, EVP_sha256(), nullptr) != 1)
    throw std::bad_alloc();
}

SourceDigest::~SourceDigest() = default;

void SourceDigest::add_piece(std::span<const std::byte> piece) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(data_of(piece), piece.size(), digest);
  EVP_DigestUpdate(outer_->context, digest, sizeof digest);
}

void SourceDigest::update(std::span<const std::byte> bytes) {
  if (!rest_.empty()) {
    const std::size_t missing = std::min(bytes.size(), kPieceBytes - rest_.size());
    rest_.insert(rest_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(missing));
    bytes = bytes.subspan(missing);
    if (rest_.size() < kPieceBytes) return;
    add_piece(rest_);
    rest_.clear();
  }
  for (; bytes.size() >= kPieceBytes; bytes = bytes.subspan(kPieceBytes)) add_piece(bytes.first(kPieceBytes));
  rest_.assign(bytes.begin(), bytes.end());
}

Digest SourceDigest::finish() {
  if (!rest_.empty()) add_piece(rest_);
  Digest digest;
  EVP_DigestFinal_ex(outer_->context, reinterpret_cast<unsigned char*>(digest.data()), nullptr);
  return digest;
}

}  // namespace cdna::tools
