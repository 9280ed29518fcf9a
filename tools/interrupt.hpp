// Ctrl-C and SIGTERM as a flag that long operations look at.
#pragma once

#include <atomic>

#include "cdna/error.hpp"

namespace cdna::tools {

// From now on the first SIGINT or SIGTERM sets the flag, the second kills as usual.
const std::atomic<bool>& stop_on_signals();

// The error of work that ends because the flag is set.
Error stopped();

}  // namespace cdna::tools
