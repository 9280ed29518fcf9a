// Switching of stacks for x86-64 and arm64.
#include "fiber.h"

#include <cstdint>

#include "sanitizer.h"

extern "C" void cdna_emulator_switch(void** save, void* load);

#if defined(__x86_64__)
asm(R"(
.text
.p2align 4
.hidden cdna_emulator_switch
.globl cdna_emulator_switch
.type cdna_emulator_switch, @function
cdna_emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size cdna_emulator_switch, . - cdna_emulator_switch
)");
#elif defined(__aarch64__)
asm(R"(
.text
.p2align 4
.hidden cdna_emulator_switch
.globl cdna_emulator_switch
.type cdna_emulator_switch, %function
cdna_emulator_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size cdna_emulator_switch, . - cdna_emulator_switch
)");
#else
#error "fibers are written for x86-64 and arm64"
#endif

namespace emulator {
namespace {

#if defined(__x86_64__)
constexpr std::size_t kSavedWords = 6;    // What the switch pops before it returns.
constexpr std::size_t kReturnWord = 6;    // Where it returns to.
constexpr std::size_t kInitialWords = 8;  // And a return address of 0: the stack is as after a call.
#else
constexpr std::size_t kSavedWords = 20;
constexpr std::size_t kReturnWord = 11;
constexpr std::size_t kInitialWords = 20;
#endif
static_assert(kReturnWord < kInitialWords && kSavedWords <= kInitialWords);

#ifdef CDNA_EMULATOR_ASAN
Fiber* g_previous = nullptr;

// The host's stack is known from the first switch away from it.
void arrive(void* fake_stack) {
  __sanitizer_finish_switch_fiber(fake_stack, &g_previous->stack, &g_previous->stack_bytes);
}
#endif

}  // namespace

void make_fiber(Fiber& fiber, void* stack, std::size_t stack_bytes, void (*entry)()) {
#ifdef CDNA_EMULATOR_ASAN
  __asan_unpoison_memory_region(stack, stack_bytes);  // Of one that was given up in the middle.
#endif
  const std::uintptr_t top = (reinterpret_cast<std::uintptr_t>(stack) + stack_bytes) / 16 * 16;
  auto* const words = reinterpret_cast<std::uintptr_t*>(top) - kInitialWords;
  for (std::size_t i = 0; i < kInitialWords; ++i) words[i] = 0;
  words[kReturnWord] = reinterpret_cast<std::uintptr_t>(entry);
  fiber = {words, stack, stack_bytes, nullptr};
}

void begin_fiber() {
#ifdef CDNA_EMULATOR_ASAN
  arrive(nullptr);
#endif
}

void switch_fiber(Fiber& from, Fiber& to) {
#ifdef CDNA_EMULATOR_ASAN
  g_previous = &from;
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack, to.stack_bytes);
  cdna_emulator_switch(&from.stack_pointer, to.stack_pointer);
  arrive(from.fake_stack);
#else
  cdna_emulator_switch(&from.stack_pointer, to.stack_pointer);
#endif
}

}  // namespace emulator
