// Functions marked so are compiled for the CPU and, where CUDA is built, for the GPU too.
#pragma once

#if defined(__CUDACC__)
#define MASR_HOST_DEVICE __host__ __device__
#else
#define MASR_HOST_DEVICE
#endif

/// The same, for functions that belong into their caller's loop: vectors in their arguments must stay in registers.
#if defined(__CUDACC__)
#define MASR_INLINE __host__ __device__ __forceinline__
#else
#define MASR_INLINE __attribute__((always_inline)) inline
#endif
