// Checks every product of linear.h on the present device: against float64, and for what else it promises.
//
//     check [--quick] [--tiny] [--preset NAME] [--seconds N]
//
// Prints "N passed, N failed" last; exits with 1 if anything failed, with 77 if there is no device that could be used.
#include <cstdlib>
#include <cstring>
#include <exception>

#include "check.h"

namespace cdna_cuda {

bool Tally::check(bool holds, const char* format, ...) {
  constexpr unsigned kPrintedMax = 12;
  if (holds) {
    ++passed_;
    return true;
  }
  ++failed_;
  if (++printed_ > kPrintedMax) return false;
  std::fputs("  FAILED ", stdout);
  va_list arguments;
  va_start(arguments, format);
  std::vprintf(format, arguments);
  va_end(arguments);
  std::puts(printed_ == kPrintedMax ? " (more are counted only)" : "");
  std::fflush(stdout);
  return false;
}

bool Output::is_poison() const {
  for (const unsigned char byte : bytes_.host()) {
    if (byte != 0xFF) return false;
  }
  return true;
}

void Workspace::reset() const {
  bytes_.fill(0xFF);
  bytes_.fill(0, size_ < kZeroBytes ? size_ : kZeroBytes);
}

void Workspace::give_to(LinearCall* call) const {
  call->workspace = bytes_.data();
  call->workspace_bytes = size_;
}

bool Workspace::is_intact() const {
  unsigned char bytes[kZeroBytes];
  const std::size_t zeros = size_ < kZeroBytes ? size_ : kZeroBytes;
  require(cudaMemcpy(bytes, bytes_.data(), zeros, cudaMemcpyDeviceToHost), "copy from the device");
  for (std::size_t i = 0; i < zeros; ++i) {
    if (bytes[i] != 0) return false;
  }
  require(cudaMemcpy(bytes, bytes_.data() + size_, kGuardBytes, cudaMemcpyDeviceToHost), "copy from the device");
  for (std::size_t i = 0; i < kGuardBytes; ++i) {
    if (bytes[i] != 0xFF) return false;
  }
  return true;
}

LinearCall call_of(const std::vector<Segment>& segments, const Activations& x, std::uint32_t m, const Output& y,
                   Loop loop) {
  LinearCall call;
  call.segments = segments.data();
  call.segment_count = static_cast<unsigned>(segments.size());
  call.x = x.data();
  call.x_type = x.type();
  call.x_stride = x.stride();
  call.m = m;
  call.y = y.data();
  call.y_type = y.type();
  call.y_stride = y.stride();
  call.loop = loop;
  return call;
}

namespace {

int run(const CheckOptions& options) {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
    std::puts("no CUDA device: nothing was checked");
    return 77;
  }
  Device device;
  const Outcome found = query_device(0, &device);
  if (found.status != Status::ok) {
    std::printf("the device cannot be used: %s\n", found.reason);
    return 77;
  }
  Tally tally;
  check_packing(options, &tally);
  check_behaviour(device, options, &tally);
  check_products(device, options, &tally);
  std::printf("%u passed, %u failed\n", tally.passed(), tally.failed());
  return tally.failed() == 0 ? 0 : 1;
}

}  // namespace
}  // namespace cdna_cuda

int main(int argc, char** argv) {
  cdna_cuda::CheckOptions options;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--quick") == 0) {
      options.quick = true;
    } else if (std::strcmp(argv[i], "--tiny") == 0) {
      options.tiny = true;
    } else if (std::strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) {
      options.seconds = std::atof(argv[++i]);
    } else if (std::strcmp(argv[i], "--preset") == 0 && i + 1 < argc) {
      options.preset = argv[++i];
    } else {
      std::printf("usage: %s [--quick] [--tiny] [--preset NAME] [--seconds N]\n", argv[0]);
      return 2;
    }
  }
  try {
    return cdna_cuda::run(options);
  } catch (const std::exception& error) {
    std::printf("  FAILED %s\n0 passed, 1 failed\n", error.what());
    return 1;
  }
}
