// Progress: one line, rewritten in place.
#include "tools/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "tools/text.hpp"

namespace cdna::tools {
Progress::Progress(std::string label)
    : label_(std::move(label)),
      terminal_(is_capable_terminal(STDERR_FILENO)),
      next_(start_ + std::chrono::seconds(1)) {}

void Progress::clear() {
  if (shown_) fmt::print(stderr, "\r\x1b[K");
  shown_ = false;
}

void Progress::show(std::uint64_t done_bytes, std::uint64_t all_bytes) {
  const Clock::time_point now = Clock::now();
  if (!terminal_ || now < next_ || all_bytes == 0) return;
  next_ = now + std::chrono::milliseconds(100);
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double share = static_cast<double>(done_bytes) / static_cast<double>(all_bytes);
  const double left = share > 0 ? seconds / share - seconds : 0;
  fmt::print(stderr, "\r\x1b[K{} {:3.0f} %  {} of {}  {}/s  {:.0f} s left", label_, share * 100,
             format_bytes(done_bytes), format_bytes(all_bytes),
             format_bytes(static_cast<std::uint64_t>(static_cast<double>(done_bytes) / seconds)), left);
  std::fflush(stderr);
  shown_ = true;
}

}  // namespace cdna::tools
