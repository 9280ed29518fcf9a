// Reads /proc/self/status again and again.
#include "tools/memory_sampler.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <charconv>
#include <chrono>

namespace cdna::tools {
namespace {

constexpr auto kInterval = std::chrono::milliseconds(1);
constexpr std::size_t kStatusBytesMax = 8192;  // About 1500 bytes; more with many groups and CPUs.

// The number of "NAME:   1234 kB", in bytes.
std::uint64_t bytes_after(std::string_view text, std::string_view name) {
  std::size_t at = text.find(name);
  if (at == std::string_view::npos) return 0;
  at = text.find_first_not_of(" \t", at + name.size());
  if (at == std::string_view::npos) return 0;
  std::uint64_t kibibytes = 0;
  std::from_chars(text.data() + at, text.data() + text.size(), kibibytes);
  return kibibytes * 1024;
}

void raise_to(std::atomic<std::uint64_t>& peak, std::uint64_t value) {
  std::uint64_t seen = peak.load();
  while (seen < value && !peak.compare_exchange_weak(seen, value)) {
  }
}

std::uint64_t growth(std::uint64_t now, std::uint64_t before) { return now > before ? now - before : 0; }

}  // namespace

ResidentMemory parse_status(std::string_view text) {
  return {bytes_after(text, "\nRssAnon:"), bytes_after(text, "\nRssFile:")};
}

MemorySampler::MemorySampler() : status_(::open("/proc/self/status", O_RDONLY | O_CLOEXEC)) {
  try {
    thread_ = std::thread([this] { run(); });
  } catch (...) {
    if (status_ >= 0) ::close(status_);
    throw;
  }
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return started_; });
}

MemorySampler::~MemorySampler() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
  if (status_ >= 0) ::close(status_);
}

std::uint64_t MemorySampler::peak_private_growth() {
  look();
  return growth(private_bytes_.load(), before_.private_bytes);
}

std::uint64_t MemorySampler::peak_file_backed() {
  look();
  return file_backed_bytes_.load();
}

std::uint64_t MemorySampler::peak_file_backed_growth() {
  look();
  return growth(file_backed_bytes_.load(), before_.file_backed_bytes);
}

void MemorySampler::look() {
  char text[kStatusBytesMax];
  const ssize_t size = status_ < 0 ? 0 : ::pread(status_, text, sizeof text, 0);
  if (size <= 0) return;
  const ResidentMemory now = parse_status(std::string_view(text, static_cast<std::size_t>(size)));
  raise_to(private_bytes_, now.private_bytes);
  raise_to(file_backed_bytes_, now.file_backed_bytes);
}

void MemorySampler::run() {
  look();  // The thread's own stack is there now; from here on it takes no more.
  std::unique_lock lock(mutex_);
  private_bytes_ = 0;
  file_backed_bytes_ = 0;
  look();
  before_ = {private_bytes_.load(), file_backed_bytes_.load()};
  started_ = true;
  changed_.notify_all();
  while (!changed_.wait_for(lock, kInterval, [this] { return stop_; })) look();
}

}  // namespace cdna::tools
