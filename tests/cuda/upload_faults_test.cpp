// Uploads and products where only the emulated device can show what is wrong: calls of CUDA that fail, other devices,
// what was allocated in between.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "fresh_device.hpp"
#include "kernels/cuda/emulator/emulator.h"
#include "tests/tensor_file.hpp"

using namespace cdna;
using namespace cdna::test;

TEST_CASE_METHOD(FreshDevice,
                 "upload: what kernels cannot multiply with is refused, with its name, before anything is allocated") {
  const auto error_of = [](const CodebookPlanes& planes, const BlockLayout& layout = {}) {
    const std::size_t launches = emulator::counts().launches;
    const cdna_cuda_error error = refused(SavedFile(file_of(planes, layout)));
    CHECK(std::string(error.tensor) == "w");
    CHECK(emulator::counts().device_bytes_peak == 0);
    CHECK(emulator::counts().launches == launches);
    return error;
  };
  CodebookShape shape;
  shape.rows = 20;
  shape.cols = 40;
  shape.bits = 9;
  CHECK(error_of(random_planes(shape, 1)).code == CDNA_CUDA_UNSUPPORTED);
  shape.bits = 8;
  shape.rows = 0;
  shape.cols = std::uint64_t{1} << 28;
  BlockLayout cut_rows;
  cut_rows.rows_per_block = 0;
  CHECK(error_of(random_planes(shape, 1), cut_rows).code == CDNA_CUDA_UNSUPPORTED);
  shape.rows = 20;
  shape.cols = 40;
  CodebookPlanes planes = random_planes(shape, 1);
  planes.nonfinite = true;
  const cdna_cuda_error nonfinite = error_of(planes);
  CHECK(nonfinite.code == CDNA_CUDA_UNSUPPORTED);
  CHECK(std::string(nonfinite.message).find("NONFINITE") != std::string::npos);
  shape.codebook_dtype = DType::f32;
  planes = random_planes(shape, 1);
  planes.codebook[7] = std::nextafter(planes.codebook[7], planes.codebook[8]);
  planes.codebook[7] = (planes.codebook[7] + planes.codebook[8]) / 2 + 1e-5;
  std::sort(planes.codebook.begin(), planes.codebook.end());
  CHECK(error_of(planes).code == CDNA_CUDA_UNSUPPORTED);
  CHECK(device_faults() == "");
}

TEST_CASE_METHOD(SampleModel, "upload: devices that cannot be used are refused with the reason") {
  CHECK(cdna_cuda_device_supported(0, nullptr) == CDNA_CUDA_OK);
  CHECK(error_of_device(file, 1).code == CDNA_CUDA_NOT_FOUND);
  emulator::settings().major = 7;
  CHECK(error_of_device(file, 0).code == CDNA_CUDA_UNSUPPORTED);
  emulator::reset();
  emulator::settings().devices = 0;
  CHECK(error_of_device(file, 0).code == CDNA_CUDA_UNSUPPORTED);
  emulator::reset();
  emulator::fail_call(1, cudaErrorInsufficientDriver);
  const cdna_cuda_error old = refused(file);
  CHECK(old.code == CDNA_CUDA_UNSUPPORTED);
  CHECK(std::string(old.message).find("driver") != std::string::npos);
  CHECK(emulator::counts().device_bytes_peak == 0);
}

TEST_CASE_METHOD(SampleModel, "upload: the report's peaks are what was held, and over the budget nothing ever is") {
  cdna_cuda_upload_report report{};
  report.struct_size = sizeof report;
  cdna_cuda_upload_options options = upload_options(1 << 16, 2);
  REQUIRE(cdna_cuda_report(uploaded(file, options).get(), &report, nullptr) == CDNA_CUDA_OK);
  CHECK(report.device_bytes_peak == emulator::counts().device_bytes_peak);
  CHECK(report.pinned_bytes == emulator::counts().pinned_bytes_peak);
  emulator::reset();
  for (const std::uint64_t most : {std::uint64_t{1 << 16} - 1, report.device_bytes_peak - 1}) {
    options.device_bytes_max = most;
    CHECK(refused(file, options).code == CDNA_CUDA_LIMIT);
    CHECK(emulator::counts().device_bytes_peak == 0);
  }
  emulator::settings().memory_bytes = report.device_bytes_peak - 1;
  options.device_bytes_max = 0;
  CHECK(refused(file, options).code == CDNA_CUDA_NO_MEMORY);
  CHECK(device_faults() == "");
}

TEST_CASE_METHOD(SmallModel, "upload: whichever call of CUDA fails, the upload fails and nothing is left") {
  for (const std::uint32_t threads : {1U, 3U}) {
    const std::uint64_t before = emulator::counts().calls;
    cdna_cuda_model* model = nullptr;
    const cdna_cuda_upload_options options = upload_options(8192, threads);
    REQUIRE(cdna_cuda_upload(file.path().c_str(), nullptr, &options, &model, nullptr) == CDNA_CUDA_OK);
    const std::uint64_t calls = emulator::counts().calls - before;
    cdna_cuda_free(model);
    std::uint64_t failures = 0;
    for (const bool all_after : {false, true}) {
      for (std::uint64_t n = 1; n <= calls; ++n) {
        CAPTURE(n, calls, all_after, threads);
        emulator::fail_call(n, cudaErrorUnknown, all_after);
        model = nullptr;
        cdna_cuda_error error{};
        const cdna_cuda_code code = cdna_cuda_upload(file.path().c_str(), nullptr, &options, &model, &error);
        CAPTURE(emulator::failed_call(), error.message);
        emulator::fail_call(0, cudaSuccess);
        if (code == CDNA_CUDA_OK) {  // Giving back and asking for versions may fail unnoticed.
          CHECK(differences(file, ModelHandle(model)) == "");
        } else {
          CHECK(code == CDNA_CUDA_DEVICE);
          CHECK(error.cuda_error == cudaErrorUnknown);
          CHECK(model == nullptr);
          ++failures;
        }
        REQUIRE(emulator::leaks() == "");
      }
    }
    CHECK(failures > calls);
  }
  CHECK(device_faults() == "");
}

TEST_CASE_METHOD(SampleModel, "upload: a device that fails in a product leaves y and memory alone") {
  const ModelHandle model = uploaded(file);
  const std::vector<float> x(300, 1.0F);
  std::vector<float> y(37, -1.0F);
  const std::vector<cdna_cuda_segment> segments{{number_of(model, "layer.cb8"), nullptr, 0}};
  const cdna_cuda_linear_call call = linear_call(segments, x, 1, y, 37);
  cdna_cuda_error error{};
  const std::string held = emulator::leaks();
  const std::uint64_t before = emulator::counts().calls;
  REQUIRE(cdna_cuda_linear_host(model.get(), &call, nullptr, &error) == CDNA_CUDA_OK);
  const std::uint64_t calls = emulator::counts().calls - before;
  CHECK(y != std::vector<float>(37, -1.0F));
  std::uint64_t failures = 0;
  for (std::uint64_t n = 1; n <= calls; ++n) {
    CAPTURE(n);
    std::fill(y.begin(), y.end(), -1.0F);
    emulator::fail_call(n, cudaErrorUnknown);
    const cdna_cuda_code code = cdna_cuda_linear_host(model.get(), &call, nullptr, &error);
    emulator::fail_call(0, cudaSuccess);
    failures += code == CDNA_CUDA_OK ? 0 : 1;
    CHECK((code == CDNA_CUDA_OK || y == std::vector<float>(37, -1.0F)));
    CHECK(emulator::leaks() == held);
  }
  CHECK(failures > calls / 2);
}

TEST_CASE_METHOD(SampleModel, "upload: products of the host's memory that are refused allocate nothing") {
  const ModelHandle model = uploaded(file);
  const std::vector<float> x(300, 1.0F);
  std::vector<float> y(37, -1.0F);
  std::vector<cdna_cuda_segment> segments{{number_of(model, "layer.cb8"), nullptr, 0}};
  const cdna_cuda_linear_call good = linear_call(segments, x, 1, y, 37);
  const auto refuses = [&](const cdna_cuda_linear_call& call) {
    const std::uint64_t before = emulator::counts().calls;
    const cdna_cuda_code code = cdna_cuda_linear_host(model.get(), &call, nullptr, nullptr);
    CHECK(emulator::counts().calls - before <= 1);  // Which device is the current one.
    CHECK(y == std::vector<float>(37, -1.0F));
    return code;
  };
  cdna_cuda_linear_call call = good;
  call.x_stride = 299;
  CHECK(refuses(call) == CDNA_CUDA_BAD_ARGUMENT);
  call = good;
  call.y_stride = 36;
  CHECK(refuses(call) == CDNA_CUDA_BAD_ARGUMENT);
  call = good;
  call.reserved = 1;
  CHECK(refuses(call) == CDNA_CUDA_BAD_ARGUMENT);
  CHECK(cdna_cuda_linear(model.get(), &call, nullptr) == CDNA_CUDA_BAD_ARGUMENT);
  call = good;
  call.loop = CDNA_CUDA_LOOP_WGMMA;  // Has no f32.
  CHECK(refuses(call) == CDNA_CUDA_UNSUPPORTED);
  call = good;
  call.m = 0xFFFFFFFFU;
  segments[0].y_column = std::uint64_t{1} << 40;
  call.y_stride = std::int64_t{1} << 41;
  CHECK(refuses(call) == CDNA_CUDA_BAD_ARGUMENT);
  segments[0].y_column = 0;
  call.y_stride = 37;
  call.x_stride = std::int64_t{1} << 61;
  CHECK(refuses(call) == CDNA_CUDA_BAD_ARGUMENT);
  CHECK(cdna_cuda_linear_host(model.get(), &good, nullptr, nullptr) == CDNA_CUDA_OK);
}

// ---- The calling thread ----

namespace {

// Every function that chooses the device, once. Refused ones too: those that launch on the default stream.
void use_all(const SavedFile& file, int device) {
  cdna_cuda_upload_options options = upload_options(8192, 2);
  options.device = device;
  cdna_cuda_model* handle = nullptr;
  if (cdna_cuda_upload(file.path().c_str(), nullptr, &options, &handle, nullptr) != CDNA_CUDA_OK) return;
  const ModelHandle model(handle);
  const std::vector<float> x(200, 1.0F);
  std::vector<float> y(20);
  const std::vector<cdna_cuda_segment> segments{{0, nullptr, 0}};
  cdna_cuda_linear_call call = linear_call(segments, x, 1, y, 20);
  (void)cdna_cuda_linear_host(model.get(), &call, nullptr, nullptr);
  cdna_cuda_linear_plan_info plan{};
  plan.struct_size = sizeof plan;
  (void)cdna_cuda_linear_plan(model.get(), &call, &plan, nullptr);
  call.y_stride = 19;
  CHECK(cdna_cuda_linear(model.get(), &call, nullptr) != CDNA_CUDA_OK);
  CHECK(cdna_cuda_dequantize(model.get(), 0, 0, 1, nullptr, CDNA_CUDA_F32, 200, nullptr, nullptr) != CDNA_CUDA_OK);
}

int current_device() {
  int device = -1;
  REQUIRE(cudaGetDevice(&device) == cudaSuccess);
  return device;
}

}  // namespace

TEST_CASE_METHOD(SmallModel, "upload: every call leaves the current device as it was, and works with the model's") {
  emulator::settings().devices = 3;
  REQUIRE(cudaSetDevice(2) == cudaSuccess);
  const std::uint64_t before = emulator::counts().calls;
  use_all(file, 1);
  const std::uint64_t calls = emulator::counts().calls - before;
  CHECK(current_device() == 2);
  CHECK(emulator::counts().foreign_uses == 0);
  CHECK(device_faults() == "");
  for (std::uint64_t n = 1; n <= calls; ++n) {
    const std::uint64_t foreign_before = emulator::counts().foreign_uses;
    emulator::fail_call(n, cudaErrorUnknown);
    use_all(file, 1);
    const std::string failed = emulator::failed_call();
    emulator::fail_call(0, cudaSuccess);
    CAPTURE(n, calls, failed);
    CHECK(cudaPeekAtLastError() == cudaSuccess);
    CHECK(emulator::leaks() == "");
    if (failed == "cudaSetDevice" || failed == "cudaGetDevice") {  // What it has to be restored with.
      REQUIRE(cudaSetDevice(2) == cudaSuccess);
      continue;
    }
    CHECK(current_device() == 2);
    CHECK(emulator::counts().foreign_uses == foreign_before);
  }
  CHECK(device_faults() == "");
}

TEST_CASE_METHOD(SmallModel, "upload: a device that is current already is not chosen") {
  use_all(file, 0);
  CHECK(emulator::counts().device_choices == 0);
  CHECK(emulator::counts().foreign_uses == 0);
}

TEST_CASE_METHOD(SmallModel, "upload: an error that was pending before a call is pending after it") {
  emulator::settings().devices = 2;
  for (const int device : {0, 1}) {
    CHECK(cudaSetDevice(99) == cudaErrorInvalidDevice);
    use_all(file, device);
    CHECK(cdna_cuda_device_supported(device, nullptr) == CDNA_CUDA_OK);
    CHECK(cudaGetLastError() == cudaErrorInvalidDevice);
    CHECK(cudaGetLastError() == cudaSuccess);
  }
}
