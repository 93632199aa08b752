// The arithmetic of affine maps, shared by the CPU and the CUDA op: the chain's step, its adjoint, their composition.
#pragma once

#include "host_device.h"

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

// state -> matrix state + offset. Both recurrences are chains of such maps, and a scan composes them.
template <typename T, int D>
struct AffineMap {
  T matrix[D * D];  // (D, D)
  T offset[D];      // (D)
};

template <typename T, int D>
FRACTALOPS_HOST_DEVICE AffineMap<T, D> identity_map() {
  AffineMap<T, D> map;
  for (int i = 0; i < D; ++i) {
    for (int j = 0; j < D; ++j) map.matrix[i * D + j] = T(i == j);
    map.offset[i] = T(0);
  }
  return map;
}

// The step of the reversed recurrence as a map: with h_t = g_t + a, the adjoint a of step t+1 becomes
// A^T h_t = A^T a + A^T g_t.
template <typename T, int D>
FRACTALOPS_HOST_DEVICE AffineMap<T, D> adjoint_map(const T* matrix /* (D, D) */, const T* grad /* (D) */) {
  AffineMap<T, D> map;
  T moved[D];
  for (int i = 0; i < D; ++i) {
    for (int j = 0; j < D; ++j) map.matrix[i * D + j] = matrix[j * D + i];
    moved[i] = grad[i];
  }
  affine_adjoint_step<T, D>(matrix, moved);
  for (int i = 0; i < D; ++i) map.offset[i] = moved[i];
  return map;
}

template <typename T, int D>
FRACTALOPS_HOST_DEVICE void apply(const AffineMap<T, D>& map, T (&state)[D]) {
  affine_step<T, D>(map.matrix, map.offset, state);
}

// state -> later(earlier(state)). Not commutative.
template <typename T, int D>
FRACTALOPS_HOST_DEVICE AffineMap<T, D> compose(const AffineMap<T, D>& later, const AffineMap<T, D>& earlier) {
  AffineMap<T, D> both;
  for (int i = 0; i < D; ++i) {
    for (int j = 0; j < D; ++j) {
      both.matrix[i * D + j] = T(0);
      for (int k = 0; k < D; ++k) both.matrix[i * D + j] += later.matrix[i * D + k] * earlier.matrix[k * D + j];
    }
    both.offset[i] = later.offset[i];
    for (int k = 0; k < D; ++k) both.offset[i] += later.matrix[i * D + k] * earlier.offset[k];
  }
  return both;
}

}  // namespace fractalops
