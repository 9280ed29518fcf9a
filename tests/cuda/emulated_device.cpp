// The emulated device as the one that uploads are tested on.
#include "fresh_device.hpp"
#include "kernels/cuda/emulator/emulator.h"

namespace cdna::test {

FreshDevice::FreshDevice() { emulator::reset(); }
FreshDevice::~FreshDevice() { emulator::reset(); }

std::string device_faults() { return emulator::leaks() + emulator::failure(); }

}  // namespace cdna::test
