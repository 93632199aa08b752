// Functions that the CPU's and the GPU's compiler both build.
#pragma once

#ifdef __CUDACC__
#define FRACTALOPS_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define FRACTALOPS_HOST_DEVICE inline __attribute__((always_inline))
#endif
