// The arithmetic of one affine step and of its adjoint, shared by the CPU and the CUDA op.
#pragma once

#ifdef __CUDACC__
#define FRACTALOPS_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define FRACTALOPS_HOST_DEVICE inline __attribute__((always_inline))
#endif

namespace fractalops {

// point <- matrix point + offset, the chain's recurrence (paper, equation 3).
template <typename T, int D>
FRACTALOPS_HOST_DEVICE void affine_step(const T* matrix /* (D, D) */, const T* offset /* (D) */, T (&point)[D]) {
  T next[D];
  for (int i = 0; i < D; ++i) {
    next[i] = offset[i];
    for (int j = 0; j < D; ++j) next[i] += matrix[i * D + j] * point[j];
  }
  for (int i = 0; i < D; ++i) point[i] = next[i];
}

// adjoint <- matrix^T adjoint, the step of the reversed recurrence.
template <typename T, int D>
FRACTALOPS_HOST_DEVICE void affine_adjoint_step(const T* matrix /* (D, D) */, T (&adjoint)[D]) {
  T next[D];
  for (int j = 0; j < D; ++j) {
    next[j] = T(0);
    for (int i = 0; i < D; ++i) next[j] += matrix[i * D + j] * adjoint[i];
  }
  for (int j = 0; j < D; ++j) adjoint[j] = next[j];
}

}  // namespace fractalops
