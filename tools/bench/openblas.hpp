// OpenBLAS where the machine has it: found at run time, so that nothing depends on it.
#pragma once

#include <cstdint>
#include <string>

namespace cdna::tools::bench {

// Row-major f32 matrices. One call at a time: the number of threads is the library's own.
class OpenBlas {
 public:
  // Loads libopenblas.so.0 at the first call; it stays. Null where there is none.
  static const OpenBlas* find();

  const std::string& description() const { return description_; }  // "OpenBLAS 0.3.21 … Zen"

  // y [m, rows] = x [m, cols] W^T; m = 1 is sgemv.
  void multiply(const float* w, std::uint64_t rows, std::uint64_t cols, const float* x, std::uint64_t m, float* y,
                unsigned threads) const;

  // After a call with several threads: its threads wait in a loop for the next one, and that takes the core from
  // whoever is measured next. 50 ms were too little: f32 products of 256 rows ran at 120 instead of 196 Gop/s beside
  // them.
  static void wait_until_idle(unsigned threads);

 private:
  using SetThreads = void (*)(int);
  using GetConfig = char* (*)();
  using Sgemv = void (*)(int, int, int, int, float, const float*, int, const float*, int, float, float*, int);
  using Sgemm = void (*)(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*, int);

  static OpenBlas load();
  bool is_complete() const { return set_threads_ != nullptr && sgemv_ != nullptr && sgemm_ != nullptr; }

  SetThreads set_threads_ = nullptr;
  Sgemv sgemv_ = nullptr;
  Sgemm sgemm_ = nullptr;
  std::string description_;
};

}  // namespace cdna::tools::bench
