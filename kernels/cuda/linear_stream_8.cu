// The stream loop for codes of 8 bits.
#include "stream_kernel.h"

namespace cdna_cuda {

cudaError_t launch_stream_8(const StreamLaunch& call) { return launch_stream<8>(call); }

}  // namespace cdna_cuda
