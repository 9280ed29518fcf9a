// The two hash functions of suite 1 (spec/format.md, section 4): H for structures, D for bulk bytes.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "cdna/digest.hpp"

namespace cdna {

// One SHA-256 in progress. Reusable: finish() leaves it ready for the next message. Cannot fail and allocates nothing.
class Sha256 {
 public:
  Sha256();
  Sha256(const Sha256&) = delete;
  Sha256(Sha256&&) = default;
  void update(std::span<const std::byte> bytes);
  Digest finish();

 private:
  static constexpr std::size_t kContextBytes = 112;  // Of SHA256_CTX, which stays out of this header.
  alignas(8) std::byte context_[kContextBytes];
};

inline constexpr std::size_t kPieceBytes = 16384;  // spec/format.md, section 4.

// H(x). Allocates nothing.
Digest sha256(std::span<const std::byte> bytes);

// D(x): SHA-256 over the SHA-256s of the 16 KiB pieces. Allocates nothing.
Digest bulk_digest(std::span<const std::byte> bytes);

// Appends the digest of each 16 KiB piece of `bytes`, of which the last may be short.
void append_piece_digests(std::span<const std::byte> bytes, std::vector<Digest>& digests);

// D of bytes that arrive in parts of any size.
class BulkHasher {
 public:
  void update(std::span<const std::byte> bytes);
  // The same by the digests of whole pieces (the last one may be short). Requires: what came before were whole pieces.
  void update_pieces(std::span<const Digest> digests) { outer_.update(std::as_bytes(digests)); }
  Digest finish();

 private:
  Sha256 piece_;
  Sha256 outer_;
  std::size_t piece_fill_ = 0;
};

}  // namespace cdna
