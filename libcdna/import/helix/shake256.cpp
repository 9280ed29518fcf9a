// Shake256 over EVP. A call of EVP that fails has run out of memory: nothing else can happen to a hash.
#include "libcdna/import/helix/shake256.hpp"

#include <openssl/evp.h>

#include <new>

namespace cdna {
namespace {

void check(int result) {
  if (result != 1) throw std::bad_alloc();
}

EVP_MD_CTX* of(void* context) { return static_cast<EVP_MD_CTX*>(context); }

}  // namespace

void Shake256::Free::operator()(void* context) const { EVP_MD_CTX_free(of(context)); }

Shake256::Shake256() : context_(EVP_MD_CTX_new()) {
  check(context_ != nullptr);
  check(EVP_DigestInit_ex(of(context_.get()), EVP_shake256(), nullptr));
}

void Shake256::update(std::span<const std::byte> bytes) {
  check(EVP_DigestUpdate(of(context_.get()), bytes.data(), bytes.size()));
}

void Shake256::finish(std::span<std::byte> out) {
  check(EVP_DigestFinalXOF(of(context_.get()), reinterpret_cast<unsigned char*>(out.data()), out.size()));
}

}  // namespace cdna
