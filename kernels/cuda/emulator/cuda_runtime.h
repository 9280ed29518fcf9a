// Takes the place of NVIDIA's <cuda_runtime.h> where kernels are compiled for the CPU: the language (language.h) and
// the runtime (runtime.h), as far as this project needs them.
#pragma once

#include "language.h"
#include "runtime.h"
