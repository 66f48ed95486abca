// Functions marked so are compiled for the CPU and, where CUDA is built, for the GPU too.
#pragma once

#if defined(__CUDACC__)
#define MASR_HOST_DEVICE __host__ __device__
#else
#define MASR_HOST_DEVICE
#endif
