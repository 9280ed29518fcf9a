// The stream loop for codes of 5 bits.
#include "stream_kernel.h"

namespace cdna_cuda {

cudaError_t launch_stream_5(const StreamLaunch& call) { return launch_stream<5>(call); }

}  // namespace cdna_cuda
