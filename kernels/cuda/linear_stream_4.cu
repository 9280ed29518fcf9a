// The stream loop for codes of 4 bits.
#include "stream_kernel.h"

namespace cdna_cuda {

cudaError_t launch_stream_4(const StreamLaunch& call) { return launch_stream<4>(call); }

}  // namespace cdna_cuda
