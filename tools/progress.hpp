// A progress line on stderr, when that is a terminal and the work is long.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace cdna::tools {

class Progress {
 public:
  explicit Progress(std::string label);
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  // Shows bytes done of bytes in all, at most ten times a second, not in the first second.
  void show(std::uint64_t done_bytes, std::uint64_t all_bytes);
  // Removes the line.
  void clear();

 private:
  using Clock = std::chrono::steady_clock;
  std::string label_;
  bool terminal_;
  bool shown_ = false;
  Clock::time_point start_ = Clock::now();
  Clock::time_point next_;
};

}  // namespace cdna::tools
