// What the parts of the benchmark share: where results go, and what of the machine they are compared with.
#pragma once

#include <chrono>
#include <cstdarg>
#include <cstdio>
#include <string>

#include "synthetic.h"
#include "timing.h"

namespace cdna_cuda {

// Each result is a line of JSON, there as soon as it is measured: bench/run makes tables of them.
class Records {
 public:
  explicit Records(const std::string& path) : file_(path.empty() ? nullptr : std::fopen(path.c_str(), "w")) {}
  ~Records() {
    if (file_ != nullptr) std::fclose(file_);
  }
  Records(const Records&) = delete;
  Records& operator=(const Records&) = delete;
  // What is between the braces.
  void add(const char* format, ...) __attribute__((format(printf, 2, 3)));

 private:
  std::FILE* file_;
};

struct Machine {
  Device device;
  std::size_t memory_bytes = 0;
  std::size_t l2_bytes = 0;
  double read_bytes_per_second = 0;  // Measured, as are the next.
  double copy_bytes_per_second = 0;  // Read and written bytes.
  double clock_hertz = 0;            // Of multiprocessors, while decoding.
};

struct BenchOptions {
  bool quick = false;
  bool tune = false;     // Every number of splits too.
  double seconds = 300;  // Cases that have not begun by then are left out.
  std::string records;   // A file; empty: none.
  std::string preset;    // Only this one; empty: all.
};

// Time since the start, against BenchOptions::seconds.
class Deadline {
 public:
  explicit Deadline(double seconds)
      : end_(Clock::now() + std::chrono::milliseconds(static_cast<long>(seconds * 1e3))) {}
  bool passed() const { return Clock::now() > end_; }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point end_;
};

// Large buffers, nothing but loads, then copies.
void measure_bandwidth(Machine* machine, Records* records);
// Ways of making A operands from codes, with nothing else to do: weights per clock and multiprocessor.
void measure_decoding(Machine* machine, Records* records);
// Products beside cuBLAS.
void measure_products(const Machine& machine, const BenchOptions& options, const Deadline& deadline, Records* records);

}  // namespace cdna_cuda
