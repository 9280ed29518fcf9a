// The signal handler.
#include "tools/interrupt.hpp"

#include <csignal>

namespace cdna::tools {
namespace {

std::atomic<bool> stop_flag{false};
static_assert(std::atomic<bool>::is_always_lock_free);  // Or it could not be set in a handler.

void handle(int) { stop_flag.store(true, std::memory_order_relaxed); }

}  // namespace

Error stopped() {
  Error error;
  error.code = Code::cancelled;
  error.message = "stopped on request";
  return error;
}

const std::atomic<bool>& stop_on_signals() {
  struct sigaction action {};
  action.sa_handler = handle;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  return stop_flag;
}

}  // namespace cdna::tools
