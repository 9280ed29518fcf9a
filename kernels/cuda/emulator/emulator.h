// How tests steer the emulated device, and what they can ask of it.
//
// Work of streams runs at the latest possible moment: when the host, or another stream, waits for it. A kernel's blocks
// run one after the other and their threads one at a time, changing only where they wait for each other; both orders
// come from the seed. So what is missing a wait gives wrong numbers, for some seed at least. Memory that was never
// written holds Settings::poison: NaN in every type.
//
// A test includes the .cu files that it runs, and is compiled with emulator/ and its parent folder in the include path
// and linked with emulator/*.cpp. A kernel must not wait for another block of its grid.
//
// All devices are alike. Each thread has its current one, the first until it chooses; work of a stream that is not of
// that device, kernels apart, runs, and is counted (Counts::foreign_uses).
//
// A kernel that reaches past shared memory, is not aligned, or waits for what never comes, ends there: the message is
// failure(), written to stderr as well, and CUDA's error is cudaErrorLaunchFailure for all calls until reset().
#pragma once

#include <cstdint>
#include <string>

#include "runtime.h"

namespace emulator {

struct Settings {
  int devices = 1;
  int major = 9;  // Compute capability.
  int minor = 0;
  int multiprocessors = 132;
  std::size_t shared_bytes_per_block = 48 * 1024;
  std::size_t shared_bytes_per_block_max = 227 * 1024;  // With opt-in.
  std::size_t shared_bytes_per_multiprocessor = 228 * 1024;
  std::size_t memory_bytes = std::size_t{8} << 30;
  int driver_version = 13000;
  std::uint64_t seed = 1;
  unsigned char poison = 0xFF;
  bool prints_failures = true;
  // With AddressSanitizer, using device memory on the host is an error.
  bool hides_device_memory = true;
};

// Read at every call and launch; changed between them.
Settings& settings();

// Forgets everything: work that has not run, allocations (they become invalid), failures, counts, settings.
void reset();

// What went wrong in a kernel, or in work that used memory after its end; empty: nothing.
const std::string& failure();

struct Counts {
  std::uint64_t calls = 0;  // Of the runtime, launches too; not those that only ask for errors.
  std::uint64_t launches = 0;
  std::uint64_t blocks = 0;            // Run.
  std::size_t device_allocations = 0;  // Alive, as the rest.
  std::size_t device_bytes = 0;
  std::size_t device_bytes_peak = 0;
  std::size_t pinned_allocations = 0;
  std::size_t pinned_bytes = 0;
  std::size_t pinned_bytes_peak = 0;
  std::size_t streams = 0;
  std::size_t events = 0;
  std::size_t graphs = 0;  // Instances too.
  std::size_t queued = 0;  // Work that has not run.
  // Calls so far that chose a device; that used or released a stream, an event or memory of another than the calling
  // thread's current one.
  std::uint64_t device_choices = 0;
  std::uint64_t foreign_uses = 0;
};
Counts counts();

// Allocations, streams, events and graphs that are alive, in words; empty: none.
std::string leaks();

// From now, the nth call (1: the next) fails with `error`, and with `all_after` every later one. Calls that release
// something release it and fail nevertheless. 0: none.
void fail_call(std::uint64_t nth, cudaError_t error, bool all_after = false);
// The name of the call that failed so; empty: none has yet.
const std::string& failed_call();

}  // namespace emulator
