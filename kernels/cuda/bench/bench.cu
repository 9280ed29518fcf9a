// Times every product of linear.h on the present device, after what the device can do at best.
//
//     bench [--quick] [--tune] [--seconds N] [--preset NAME] [--records FILE]
//
// Prints as it goes. Exits with 77 if there is no device that could be used.
#include <cstdlib>
#include <cstring>
#include <exception>

#include "bench.h"

namespace cdna_cuda {

void Records::add(const char* format, ...) {
  if (file_ == nullptr) return;
  std::fputs("{", file_);
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(file_, format, arguments);
  va_end(arguments);
  std::fputs("}\n", file_);
  std::fflush(file_);
}

namespace {

bool find_machine(Machine* machine, Records* records) {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
    std::puts("no CUDA device: nothing was measured");
    return false;
  }
  const Outcome found = query_device(0, &machine->device);
  if (found.status != Status::ok) {
    std::printf("the device cannot be used: %s\n", found.reason);
    return false;
  }
  cudaDeviceProp properties;
  int driver = 0;
  int runtime = 0;
  require(cudaGetDeviceProperties(&properties, 0), "the device's properties");
  require(cudaDriverGetVersion(&driver), "the driver's version");
  require(cudaRuntimeGetVersion(&runtime), "the runtime's version");
  machine->memory_bytes = properties.totalGlobalMem;
  machine->l2_bytes = static_cast<std::size_t>(properties.l2CacheSize);
  std::printf("%s, compute capability %d.%d, %d multiprocessors, %.1f GB, L2 %.1f MB, CUDA %d, driver's CUDA %d\n",
              properties.name, properties.major, properties.minor, properties.multiProcessorCount,
              static_cast<double>(machine->memory_bytes) * 1e-9, static_cast<double>(machine->l2_bytes) * 1e-6, runtime,
              driver);
  std::fflush(stdout);
  records->add(
      "\"kind\": \"device\", \"name\": \"%s\", \"capability\": \"%d.%d\", \"multiprocessors\": %d, "
      "\"memory_bytes\": %zu, \"l2_bytes\": %zu, \"cuda\": %d, \"driver_cuda\": %d",
      properties.name, properties.major, properties.minor, properties.multiProcessorCount, machine->memory_bytes,
      machine->l2_bytes, runtime, driver);
  return true;
}

int run(const BenchOptions& options) {
  const Deadline deadline(options.seconds);
  Records records(options.records);
  Machine machine;
  if (!find_machine(&machine, &records)) return 77;
  measure_bandwidth(&machine, &records);
  measure_decoding(&machine, &records);
  measure_products(machine, options, deadline, &records);
  return 0;
}

// Whether the argument was understood; `i` moves past its value.
bool read_option(int argc, char** argv, int* i, BenchOptions* options) {
  const char* const name = argv[*i];
  if (std::strcmp(name, "--quick") == 0) {
    options->quick = true;
  } else if (std::strcmp(name, "--tune") == 0) {
    options->tune = true;
  } else if (*i + 1 == argc) {
    return false;
  } else if (std::strcmp(name, "--seconds") == 0) {
    options->seconds = std::atof(argv[++*i]);
  } else if (std::strcmp(name, "--preset") == 0) {
    options->preset = argv[++*i];
  } else if (std::strcmp(name, "--records") == 0) {
    options->records = argv[++*i];
  } else {
    return false;
  }
  return true;
}

}  // namespace
}  // namespace cdna_cuda

int main(int argc, char** argv) {
  cdna_cuda::BenchOptions options;
  for (int i = 1; i < argc; ++i) {
    if (!cdna_cuda::read_option(argc, argv, &i, &options)) {
      std::printf("usage: %s [--quick] [--tune] [--seconds N] [--preset NAME] [--records FILE]\n", argv[0]);
      return 2;
    }
  }
  try {
    return cdna_cuda::run(options);
  } catch (const std::exception& error) {
    std::printf("%s\n", error.what());
    return 1;
  }
}
