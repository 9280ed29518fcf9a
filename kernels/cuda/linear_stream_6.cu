// The stream loop for codes of 6 bits.
#include "stream_kernel.h"

namespace cdna_cuda {

cudaError_t launch_stream_6(const StreamLaunch& call) { return launch_stream<6>(call); }

}  // namespace cdna_cuda
