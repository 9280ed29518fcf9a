// The two hash functions of suite 1 (spec/format.md, section 4): H for structures, D for bulk bytes.
#pragma once

#include <cstddef>
#include <span>
#include <utility>

#include "cdna/digest.hpp"

struct SHA256state_st;

namespace cdna {

// One SHA-256 in progress. Reusable: finish() leaves it ready for the next message.
// Construction can throw std::bad_alloc; hashing itself cannot fail and allocates nothing.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&& other) noexcept : context_(std::exchange(other.context_, nullptr)) {}
  Sha256& operator=(Sha256&&) = delete;
  void update(std::span<const std::byte> bytes);
  Digest finish();

 private:
  SHA256state_st* context_;
};

inline constexpr std::size_t kPieceBytes = 16384;  // spec/format.md, section 4.

// H(x). Allocates nothing after the first call of a thread.
Digest sha256(std::span<const std::byte> bytes);

// D(x): SHA-256 over the SHA-256s of the 16 KiB pieces. Allocates nothing after the first call of a thread.
Digest bulk_digest(std::span<const std::byte> bytes);

// D of bytes that arrive in parts of any size.
class BulkHasher {
 public:
  void update(std::span<const std::byte> bytes);
  Digest finish();

 private:
  Sha256 piece_;
  Sha256 outer_;
  std::size_t piece_fill_ = 0;
};

}  // namespace cdna
