// The heap that the whole process has in use, and the most that it has had.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cdna::test {

#ifdef CDNA_MEASURES_HEAP
inline constexpr bool kMeasuresHeap = true;
#else
inline constexpr bool kMeasuresHeap = false;  // A sanitizer has an allocator of its own, which must not be replaced.
#endif

// From its construction on. One at a time.
class HeapMeter {
 public:
  HeapMeter();
  // The most bytes in use at one time beyond those in use at the beginning; 0 where nothing is measured.
  std::uint64_t peak_bytes() const;

 private:
  std::uint64_t at_start_;
};

}  // namespace cdna::test
