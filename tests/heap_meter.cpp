// Replaces the allocator's functions by counting ones, so that operator new, OpenSSL, zstd and brotli are all seen.
#include "heap_meter.hpp"

#include <malloc.h>

#include <atomic>
#include <cerrno>

#ifdef CDNA_MEASURES_HEAP

namespace {

std::atomic<std::uint64_t> in_use_bytes{0};
std::atomic<std::uint64_t> peak_in_use_bytes{0};

void* counted(void* memory) {
  if (memory == nullptr) return nullptr;
  const std::size_t size = malloc_usable_size(memory);
  const std::uint64_t now = in_use_bytes.fetch_add(size, std::memory_order_relaxed) + size;
  std::uint64_t peak = peak_in_use_bytes.load(std::memory_order_relaxed);
  while (now > peak && !peak_in_use_bytes.compare_exchange_weak(peak, now, std::memory_order_relaxed)) {
  }
  return memory;
}

void uncount(std::size_t size) { in_use_bytes.fetch_sub(size, std::memory_order_relaxed); }

}  // namespace

extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* memory, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);
void __libc_free(void* memory);

void* malloc(std::size_t size) { return counted(__libc_malloc(size)); }
void* calloc(std::size_t count, std::size_t size) { return counted(__libc_calloc(count, size)); }
void* memalign(std::size_t alignment, std::size_t size) { return counted(__libc_memalign(alignment, size)); }
void* aligned_alloc(std::size_t alignment, std::size_t size) { return memalign(alignment, size); }
int posix_memalign(void** out, std::size_t alignment, std::size_t size) {
  *out = memalign(alignment, size);
  return *out == nullptr ? ENOMEM : 0;
}
void* realloc(void* memory, std::size_t size) {
  const std::size_t before = memory == nullptr ? 0 : malloc_usable_size(memory);
  void* const moved = __libc_realloc(memory, size);
  if (moved == nullptr && size != 0) return nullptr;  // The old memory stays.
  uncount(before);
  return counted(moved);
}
void free(void* memory) {
  if (memory != nullptr) uncount(malloc_usable_size(memory));
  __libc_free(memory);
}
}

#endif

namespace cdna::test {

#ifdef CDNA_MEASURES_HEAP
HeapMeter::HeapMeter() : at_start_(in_use_bytes.load()) { peak_in_use_bytes.store(at_start_); }
std::uint64_t HeapMeter::peak_bytes() const { return peak_in_use_bytes.load() - at_start_; }
#else
HeapMeter::HeapMeter() : at_start_(0) {}
std::uint64_t HeapMeter::peak_bytes() const { return at_start_; }
#endif

}  // namespace cdna::test
