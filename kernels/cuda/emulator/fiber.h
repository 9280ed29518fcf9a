// Fibers: stacks that take turns on one thread. A switch saves the registers that a call keeps, and nothing else.
#pragma once

#include <cstddef>

namespace emulator {

struct Fiber {
  void* stack_pointer = nullptr;  // While another runs.
  const void* stack = nullptr;    // Lowest address.
  std::size_t stack_bytes = 0;
  void* fake_stack = nullptr;  // AddressSanitizer's.
};

// One that will run `entry` on the given stack. `entry` calls begin_fiber() first, and never returns.
void make_fiber(Fiber& fiber, void* stack, std::size_t stack_bytes, void (*entry)());
void begin_fiber();

// Returns when something switches back to `from`.
void switch_fiber(Fiber& from, Fiber& to);

}  // namespace emulator
