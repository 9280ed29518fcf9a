// Threads that take the next index until there is none.
#include "tools/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace cdna::tools {

void for_each_index(std::size_t count, unsigned threads, const std::function<void(std::size_t)>& work) {
  if (threads == 0) threads = std::max(1U, std::thread::hardware_concurrency());
  std::atomic<std::size_t> next{0};
  std::exception_ptr failure;
  std::mutex mutex;
  const auto take_all = [&] {
    for (std::size_t i = next++; i < count; i = next++) {
      try {
        work(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        failure = std::current_exception();
        next = count;
      }
    }
  };
  std::vector<std::jthread> helpers;
  helpers.reserve(std::min<std::size_t>(threads, count));
  try {
    while (helpers.size() + 1 < std::min<std::size_t>(threads, count)) helpers.emplace_back(take_all);
  } catch (const std::system_error&) {  // Fewer threads do the same.
  }
  take_all();
  helpers.clear();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace cdna::tools
