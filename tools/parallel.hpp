// Work on many tensors, or rows, side by side.
#pragma once

#include <cstddef>
#include <functional>

namespace cdna::tools {

// Calls work(0), ..., work(count - 1), each once, in about this order, on `threads` threads with the caller's (0: one
// per core). What a call throws is thrown here after all have ended; no further calls are begun then.
void for_each_index(std::size_t count, unsigned threads, const std::function<void(std::size_t)>& work);

}  // namespace cdna::tools
