// The allocator of the whole process: operator new, zstd, brotli and OpenSSL end here too.
#include "failing_allocations.hpp"

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <iterator>

namespace cdna::test {

constinit Allocations allocations;

std::ptrdiff_t open_descriptors() {
  namespace fs = std::filesystem;
  return std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator());
}

}  // namespace cdna::test

namespace {

using cdna::test::allocations;

bool granted() {
  if (!allocations.armed) return true;
  const std::uint64_t number = allocations.asked++;
  if (number < allocations.fail_begin || number >= allocations.fail_end) return true;
  ++allocations.failed;
  errno = ENOMEM;
  return false;
}

void* counted(void* memory) {
  if (memory != nullptr) ++allocations.live;
  return memory;
}

}  // namespace

extern "C" {

void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);

#define CDNA_INTERPOSED __attribute__((visibility("default")))

CDNA_INTERPOSED void* malloc(std::size_t size) { return granted() ? counted(__libc_malloc(size)) : nullptr; }
CDNA_INTERPOSED void* calloc(std::size_t count, std::size_t size) {
  return granted() ? counted(__libc_calloc(count, size)) : nullptr;
}
CDNA_INTERPOSED void* realloc(void* old, std::size_t size) {
  if (size != 0 && !granted()) return nullptr;
  void* const memory = __libc_realloc(old, size);
  if (old == nullptr && memory != nullptr) ++allocations.live;
  if (old != nullptr && memory == nullptr && size == 0) --allocations.live;
  return memory;
}
CDNA_INTERPOSED void* memalign(std::size_t alignment, std::size_t size) {
  return granted() ? counted(__libc_memalign(alignment, size)) : nullptr;
}
CDNA_INTERPOSED void* aligned_alloc(std::size_t alignment, std::size_t size) { return memalign(alignment, size); }
CDNA_INTERPOSED int posix_memalign(void** out, std::size_t alignment, std::size_t size) {
  void* const memory = memalign(alignment, size);
  if (memory == nullptr) return ENOMEM;
  *out = memory;
  return 0;
}
CDNA_INTERPOSED void free(void* memory) {
  if (memory != nullptr) --allocations.live;
  __libc_free(memory);
}

}  // extern "C"
