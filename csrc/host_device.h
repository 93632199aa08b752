// The prefix of functions that are compiled for the host and for the device.
#pragma once

#ifdef __CUDACC__
#define FRACTALOPS_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define FRACTALOPS_HOST_DEVICE inline __attribute__((always_inline))
#endif
