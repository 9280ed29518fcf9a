// Memory that ends where a page ends that nobody may touch: kernels' inputs, so that one byte too many is a crash.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace cdna::test {

class GuardedMemory {
 public:
  explicit GuardedMemory(std::size_t size) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    size_ = (size + page - 1) / page * page;
    length_ = size_ + page;
    memory_ = ::mmap(nullptr, length_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(memory_ != MAP_FAILED);
    REQUIRE(::mprotect(static_cast<std::uint8_t*>(memory_) + size_, page, PROT_NONE) == 0);
  }
  GuardedMemory(const GuardedMemory&) = delete;
  GuardedMemory& operator=(const GuardedMemory&) = delete;
  ~GuardedMemory() { ::munmap(memory_, length_); }

  // A copy that ends `before_end` bytes before the guarded page. Good until the next call.
  template <class T>
  const T* hold(std::span<const T> values, std::size_t before_end = 0) {
    REQUIRE(values.size_bytes() + before_end <= size_);
    auto* const at = static_cast<std::uint8_t*>(memory_) + size_ - before_end - values.size_bytes();
    if (!values.empty()) std::memcpy(at, values.data(), values.size_bytes());
    return reinterpret_cast<const T*>(at);
  }

 private:
  void* memory_ = nullptr;
  std::size_t size_ = 0;
  std::size_t length_ = 0;
};

}  // namespace cdna::test
