// Preloaded into a program, it makes one write to a regular file short: the call takes half of what it was given.
//
//   SHORT_WRITE_AT=K LD_PRELOAD=short_write.so PROGRAM ...      K counts the writes of two bytes or more from 0
//
// Each short write is reported on stderr as "short write: TAKEN of SIZE".
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>

namespace {

std::atomic<unsigned long> write_count{0};

bool is_regular(int fd) {
  struct stat info {};
  return fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
}

bool is_the_one() {
  const char* const text = std::getenv("SHORT_WRITE_AT");
  return text != nullptr && write_count.fetch_add(1) == std::strtoul(text, nullptr, 10);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) ssize_t write(int fd, const void* data, size_t size) {
  size_t taken = size;
  if (size > 1 && is_regular(fd) && is_the_one()) {
    taken = size / 2;
    dprintf(STDERR_FILENO, "short write: %zu of %zu\n", taken, size);  // Calls glibc's own write, not this one.
  }
  return syscall(SYS_write, fd, data, taken);
}
