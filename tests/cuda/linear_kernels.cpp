// The product's kernels and host functions, compiled for the emulated device.
#include "../../kernels/cuda/linear.cu"
#include "../../kernels/cuda/linear_stream.cu"
#include "../../kernels/cuda/linear_stream_4.cu"
#include "../../kernels/cuda/linear_stream_5.cu"
#include "../../kernels/cuda/linear_stream_6.cu"
#include "../../kernels/cuda/linear_stream_8.cu"
#include "../../kernels/cuda/stream_shape.cu"
