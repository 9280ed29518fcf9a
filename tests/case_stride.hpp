// Long sweeps, made shorter for builds with sanitizers.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>

namespace cdna::test {

// Passes over most cases of a long sweep where CDNA_TEST_STRIDE asks for it: builds with sanitizers are 20 to 50 times
// as slow.
class CaseStride {
 public:
  CaseStride() {
    const char* const text = std::getenv("CDNA_TEST_STRIDE");
    if (text != nullptr) stride_ = std::max<std::uint64_t>(1, std::strtoull(text, nullptr, 10));
  }
  bool takes_next() { return next_++ % stride_ == 0; }
  // For tests that shrink an input instead.
  bool passes_over() const { return stride_ > 1; }

 private:
  std::uint64_t stride_ = 1;
  std::uint64_t next_ = 0;
};

}  // namespace cdna::test
