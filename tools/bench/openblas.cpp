// The three functions, by dlopen.
#include "tools/bench/openblas.hpp"

#include <dlfcn.h>

#include <chrono>
#include <thread>

namespace cdna::tools::bench {
namespace {

// Of cblas.h.
constexpr int kRowMajor = 101;
constexpr int kNoTranspose = 111;
constexpr int kTranspose = 112;

template <class Function>
Function symbol(void* library, const char* name) {
  return reinterpret_cast<Function>(::dlsym(library, name));
}

}  // namespace

OpenBlas OpenBlas::load() {
  OpenBlas blas;
  void* const library = ::dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return blas;
  blas.set_threads_ = symbol<SetThreads>(library, "openblas_set_num_threads");
  blas.sgemv_ = symbol<Sgemv>(library, "cblas_sgemv");
  blas.sgemm_ = symbol<Sgemm>(library, "cblas_sgemm");
  const auto config = symbol<GetConfig>(library, "openblas_get_config");
  blas.description_ = config == nullptr ? "OpenBLAS" : config();
  return blas;
}

const OpenBlas* OpenBlas::find() {
  static const OpenBlas blas = load();
  return blas.is_complete() ? &blas : nullptr;
}

void OpenBlas::multiply(const float* w, std::uint64_t rows, std::uint64_t cols, const float* x, std::uint64_t m,
                        float* y, unsigned threads) const {
  set_threads_(static_cast<int>(threads));
  const auto n = static_cast<int>(rows);
  const auto k = static_cast<int>(cols);
  if (m == 1) return sgemv_(kRowMajor, kNoTranspose, n, k, 1, w, k, x, 1, 0, y, 1);
  sgemm_(kRowMajor, kNoTranspose, kTranspose, static_cast<int>(m), n, k, 1, x, k, w, k, 0, y, n);
}

void OpenBlas::wait_until_idle(unsigned threads) {
  if (threads > 1) std::this_thread::sleep_for(std::chrono::milliseconds(400));
}

}  // namespace cdna::tools::bench
