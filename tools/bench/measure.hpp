// Repetitions that take turns, so that a machine that slows down slows both.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "cdna/error.hpp"
#include "tools/bench/report.hpp"
#include "tools/interrupt.hpp"

namespace cdna::tools::bench {

inline constexpr int kRepetitions = 7;

// Leaves a measurement, which returns a figure.
struct Failure : std::runtime_error {
  explicit Failure(Error cause) : std::runtime_error(cause.message), error(std::move(cause)) {}
  Error error;
};

inline void require(const Result<void>& result) {
  if (!result) throw Failure(result.error());
}

template <class T>
T require(Result<T> result) {
  if (!result) throw Failure(std::move(result).error());
  return *std::move(result);
}

// Runs something once and returns a figure: a time or a rate.
using Measurement = std::function<double()>;

struct Pair {
  Samples ours;
  Samples reference;
};

// One run of each to warm up, then each in turn, again and again. Throws Failure (cancelled) when `stop` becomes true.
inline std::vector<Samples> in_turns(const std::vector<Measurement>& measurements,
                                     const std::atomic<bool>* stop = nullptr) {
  std::vector<std::vector<double>> values(measurements.size());
  for (int repetition = -1; repetition < kRepetitions; ++repetition) {
    for (std::size_t i = 0; i < measurements.size(); ++i) {
      if (stop != nullptr && stop->load()) throw Failure(stopped());
      const double value = measurements[i]();
      if (repetition >= 0) values[i].push_back(value);
    }
  }
  std::vector<Samples> samples;
  for (std::vector<double>& each : values) samples.push_back(samples_of(std::move(each)));
  return samples;
}

inline Pair interleaved(const Measurement& reference, const Measurement& ours) {
  const std::vector<Samples> samples = in_turns({reference, ours});
  return {samples[1], samples[0]};
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
