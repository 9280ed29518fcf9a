// Operations with every allocation failing in turn. A program that has this has an allocator of its own.
#pragma once

#include <atomic>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <new>

namespace cdna::test {

inline constexpr std::uint64_t kNever = ~std::uint64_t{0};

struct Allocations {
  std::atomic<bool> armed{false};
  std::atomic<std::uint64_t> asked{0};  // While armed; the first has number 0.
  std::atomic<std::uint64_t> fail_begin{kNever};
  std::atomic<std::uint64_t> fail_end{kNever};
  std::atomic<std::uint64_t> failed{0};
  std::atomic<std::int64_t> live{0};  // Always counted.
};
extern constinit Allocations allocations;

// What the test itself needs in the middle of an operation is granted.
class Granted {
 public:
  Granted() : was_(allocations.armed.exchange(false)) {}
  ~Granted() { allocations.armed = was_; }

 private:
  bool was_;
};

template <class Make>
auto granted_to_test(const Make& make) {
  const Granted granted;
  return make();
}

// An operation says what came of it; `wrong` is a success with a wrong result.
enum class Outcome { right, wrong, no_memory, other_error, escaped };

#define TRY_OUTCOME(expression)                                                                            \
  if (const cdna::test::Outcome cdna_outcome_ = (expression); cdna_outcome_ != cdna::test::Outcome::right) \
  return cdna_outcome_

template <class Operation>
Outcome run(const Operation& operation, std::uint64_t begin, std::uint64_t end) {
  allocations.asked = 0;
  allocations.failed = 0;
  allocations.fail_begin = begin;
  allocations.fail_end = end;
  allocations.armed = true;
  Outcome outcome = Outcome::escaped;
  try {
    outcome = operation();
  } catch (const std::bad_alloc&) {
  }
  allocations.armed = false;
  return outcome;
}

std::ptrdiff_t open_descriptors();

// What a failed allocation may lead to besides a right result.
enum class Failure { error, exception, nothing };

inline bool is_allowed(Outcome outcome, Failure failure) {
  if (outcome == Outcome::right) return true;
  return outcome == (failure == Failure::error ? Outcome::no_memory : Outcome::escaped) && failure != Failure::nothing;
}

// Runs the operation with every allocation failing in turn, once and from there on.
template <class Operation>
void fail_everywhere(const char* name, const Operation& operation, Failure failure = Failure::error) {
  INFO(name);
  for (int warm_up = 0; warm_up < 2; ++warm_up) REQUIRE(run(operation, kNever, kNever) == Outcome::right);
  const std::uint64_t count = allocations.asked;
  const std::int64_t live_before = allocations.live;
  const std::ptrdiff_t descriptors_before = open_descriptors();
  std::uint64_t refused = 0;
  for (std::uint64_t number = 0; number < count; ++number) {
    for (const bool once : {true, false}) {
      const Outcome outcome = run(operation, number, once ? number + 1 : kNever);
      const std::int64_t live_after = allocations.live;
      refused += outcome != Outcome::right ? 1U : 0U;
      if (is_allowed(outcome, failure) && allocations.failed > 0 && live_after == live_before) continue;
      FAIL("allocation " << number << " of " << count << (once ? ", once" : ", from there on") << ": outcome "
                         << static_cast<int>(outcome) << ", " << allocations.failed << " failures injected, "
                         << live_after - live_before << " allocations left");
    }
  }
  CHECK(open_descriptors() == descriptors_before);
  CHECK(run(operation, kNever, kNever) == Outcome::right);
  // Hardly an allocation can be done without; Allocations::failed shows that each was refused.
  if (failure != Failure::nothing) CHECK(refused > count);
  std::printf("%s: %llu allocations, each failed twice, %llu no_memory\n", name, static_cast<unsigned long long>(count),
              static_cast<unsigned long long>(refused));
}

}  // namespace cdna::test
