// The device that uploads are tested on: emulated_device.cpp, or real_device.cpp.
#pragma once

#include <string>

#include "sample_model.hpp"
#include "uploaded_model.hpp"

namespace cdna::test {

// As a device is at first, and left so: the settings of the emulated one, too.
struct FreshDevice {
  FreshDevice();
  ~FreshDevice();
  FreshDevice(const FreshDevice&) = delete;
  FreshDevice& operator=(const FreshDevice&) = delete;
};

struct SampleModel : FreshDevice {
  const SavedFile file{model_bytes(Codec::raw)};
};

struct SmallModel : FreshDevice {
  const SavedFile file{small_model_bytes()};
};

// "" unless something was wrong on the device, or (which a real one does not tell) something is still held there.
std::string device_faults();

}  // namespace cdna::test
