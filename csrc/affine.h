// Arithmetic of affine maps that the CPU and the CUDA op share: the chain's step, its adjoint and composition.
#pragma once

#include "host_device.h"

namespace fractalops {

// point <- matrix point + offset: one step of the chain (paper, equation 3).
template <typename T, int D>
FRACTALOPS_HOST_DEVICE void affine_step(const T* matrix /* (D, D) */, const T* offset /* (D) */, T (&point)[D]) {
  T next[D];
  for (int i = 0; i < D; ++i) {
    next[i] = offset[i];
    for (int j = 0; j < D; ++j) next[i] += matrix[i * D + j] * point[j];
  }
  for (int i = 0; i < D; ++i) point[i] = next[i];
}

// adjoint <- matrix^T adjoint: one step of the adjoint recurrence, which runs from the last point to the first.
template <typename T, int D>
FRACTALOPS_HOST_DEVICE void affine_adjoint_step(const T* matrix /* (D, D) */, T (&adjoint)[D]) {
  T next[D];
  for (int j = 0; j < D; ++j) {
    next[j] = T(0);
    for (int i = 0; i < D; ++i) next[j] += matrix[i * D + j] * adjoint[i];
  }
  for (int j = 0; j < D; ++j) adjoint[j] = next[j];
}

// The map state -> matrix state + offset. The chain and its adjoint recurrence are sequences of such maps, which a scan
// can compose.
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

// A step of the adjoint recurrence as a map. With h_t = g_t + a, it maps the adjoint a of step t + 1 to
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

// The map state -> later(earlier(state)). Composition is not commutative.
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
