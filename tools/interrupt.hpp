// Ctrl-C and SIGTERM as a flag that long operations look at.
#pragma once

#include <atomic>

namespace cdna::tools {

// From now on the first SIGINT or SIGTERM sets the flag, the second kills as usual.
const std::atomic<bool>& stop_on_signals();

}  // namespace cdna::tools
