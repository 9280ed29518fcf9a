// How much memory this process has while something runs: private and file-backed, looked at a thousand times a second.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string_view>
#include <thread>

namespace cdna::tools {

// Resident bytes of a process: RssAnon and RssFile of /proc/self/status. Where the kernel counts per thread, each may
// lag by some pages for each of them.
struct ResidentMemory {
  std::uint64_t private_bytes = 0;
  std::uint64_t file_backed_bytes = 0;
};

// The two lines of the text of /proc/self/status; what is missing is 0.
ResidentMemory parse_status(std::string_view text);

// Looks from its construction on, by a thread of its own, which allocates nothing after the first look. The peaks are
// those until now, and look once more, so that also work of less than a millisecond is seen as it ends. Without /proc
// they are 0. Throws: std::system_error (no thread can be started).
class MemorySampler {
 public:
  MemorySampler();
  ~MemorySampler();
  MemorySampler(const MemorySampler&) = delete;
  MemorySampler& operator=(const MemorySampler&) = delete;

  std::uint64_t peak_private_growth();  // Above what was there at construction.
  std::uint64_t peak_file_backed();     // Of all mapped files, those of the program's own code too.
  std::uint64_t peak_file_backed_growth();

 private:
  void look();
  void run();

  int status_ = -1;  // Descriptor of /proc/self/status.
  ResidentMemory before_;
  std::atomic<std::uint64_t> private_bytes_{0};
  std::atomic<std::uint64_t> file_backed_bytes_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  bool started_ = false;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace cdna::tools
