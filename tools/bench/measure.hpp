// Repetitions that take turns, so that a machine that slows down slows both.
#pragma once

#include <chrono>
#include <functional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "cdna/error.hpp"
#include "tools/bench/report.hpp"

namespace cdna::tools::bench {

inline constexpr int kRepetitions = 7;

// Leaves a measurement, which returns a figure.
struct Failure : std::runtime_error {
  explicit Failure(Error cause) : std::runtime_error(cause.message), error(std::move(cause)) {}
  Error error;
};

// Runs something once and returns a figure: a time or a rate.
using Measurement = std::function<double()>;

struct Pair {
  Samples ours;
  Samples reference;
};

// One run of each to warm up, then reference, ours, reference, …
inline Pair interleaved(const Measurement& reference, const Measurement& ours) {
  std::vector<double> reference_values;
  std::vector<double> our_values;
  reference();
  ours();
  for (int i = 0; i < kRepetitions; ++i) {
    reference_values.push_back(reference());
    our_values.push_back(ours());
  }
  return {samples_of(std::move(our_values)), samples_of(std::move(reference_values))};
}

inline Samples repeated(const Measurement& ours) {
  std::vector<double> values;
  ours();
  for (int i = 0; i < kRepetitions; ++i) values.push_back(ours());
  return samples_of(std::move(values));
}

// Seconds that `work` takes.
template <class Work>
double seconds_of(const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// What the compiler must not leave out.
template <class T>
void keep(const T& value) {
  asm volatile("" : : "r,m"(value) : "memory");
}

}  // namespace cdna::tools::bench
