// SHAKE256 of OpenSSL, for the layer chains of helix-substrate.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

namespace cdna {

// One digest in progress.
class Shake256 {
 public:
  // Throws std::bad_alloc.
  Shake256();
  void update(std::span<const std::byte> bytes);
  // Fills `out`, of any length. Called once, last.
  void finish(std::span<std::byte> out);

 private:
  struct Free {
    void operator()(void* context) const;
  };
  std::unique_ptr<void, Free> context_;  // EVP_MD_CTX, which stays out of this header.
};

}  // namespace cdna
