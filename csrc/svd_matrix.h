// The matrix of one map from its SVD parameters, and its derivative, for the host and the device.
#pragma once

#include <cmath>

#include "affine.h"

namespace fractalops {

// p = theta, phi, s1, s2, d1, d2. With the singular values l1 and l2, a = (l1 + l2) / 2 and b = (l1 - l2) / 2,
//   R(theta) diag(l1, l2) R(phi) = [[a cos(+) + b cos(-), -a sin(+) + b sin(-)],
//                                   [a sin(+) + b sin(-),  a cos(+) - b cos(-)]],
// where (+) = theta + phi and (-) = theta - phi. The columns are then multiplied by the signs of d1 and d2 (paper,
// equation 10). slope[k] is the derivative of the k-th singular value with respect to its parameter s.
struct SvdFactors {
  double a, b, cos_sum, sin_sum, cos_difference, sin_difference, sign[2], slope[2];
};

template <typename T>
FRACTALOPS_HOST_DEVICE SvdFactors svd_factors(const T* p /* (6) */, bool clamped) {
  double value[2];
  SvdFactors f;
  for (int k = 0; k < 2; ++k) {
    const double s = p[2 + k];
    if (clamped) {
      value[k] = s < 0 ? 0 : s > 1 ? 1 : s;
      f.slope[k] = s >= 0 && s <= 1;
    } else {
      value[k] = 1 / (1 + std::exp(-s));
      f.slope[k] = value[k] * (1 - value[k]);
    }
    f.sign[k] = p[4 + k] < 0 ? -1 : 1;
  }
  f.a = (value[0] + value[1]) / 2;
  f.b = (value[0] - value[1]) / 2;
  const double sum = static_cast<double>(p[0]) + p[1], difference = static_cast<double>(p[0]) - p[1];
  f.cos_sum = std::cos(sum);
  f.sin_sum = std::sin(sum);
  f.cos_difference = std::cos(difference);
  f.sin_difference = std::sin(difference);
  return f;
}

// Writes the matrix (2, 2) without the signs of its columns, in row-major order.
FRACTALOPS_HOST_DEVICE void svd_unsigned(const SvdFactors& f, double (&m)[4]) {
  m[0] = f.a * f.cos_sum + f.b * f.cos_difference;
  m[1] = -f.a * f.sin_sum + f.b * f.sin_difference;
  m[2] = f.a * f.sin_sum + f.b * f.sin_difference;
  m[3] = f.a * f.cos_sum - f.b * f.cos_difference;
}

template <typename T>
FRACTALOPS_HOST_DEVICE void svd_matrix(const T* p /* (6) */, bool clamped, T* matrix /* (2, 2) */) {
  const SvdFactors f = svd_factors(p, clamped);
  double m[4];
  svd_unsigned(f, m);
  for (int k = 0; k < 4; ++k) matrix[k] = static_cast<T>(m[k] * f.sign[k % 2]);
}

// The signs have straight-through gradients: the backward treats each sign as if it were the parameter d1 or d2 itself.
template <typename T>
FRACTALOPS_HOST_DEVICE void svd_matrix_adjoint(const T* p /* (6) */, bool clamped, const T* grad /* (2, 2) */,
                                               T* grad_p /* (6) */) {
  const SvdFactors f = svd_factors(p, clamped);
  double m[4], g[4];
  svd_unsigned(f, m);
  for (int k = 0; k < 4; ++k) g[k] = grad[k] * f.sign[k % 2];
  const double along_sum = f.a * ((g[2] - g[1]) * f.cos_sum - (g[0] + g[3]) * f.sin_sum);
  const double along_difference = f.b * ((g[3] - g[0]) * f.sin_difference + (g[1] + g[2]) * f.cos_difference);
  const double along_a = (g[0] + g[3]) * f.cos_sum + (g[2] - g[1]) * f.sin_sum;
  const double along_b = (g[0] - g[3]) * f.cos_difference + (g[1] + g[2]) * f.sin_difference;
  grad_p[0] = static_cast<T>(along_sum + along_difference);
  grad_p[1] = static_cast<T>(along_sum - along_difference);
  grad_p[2] = static_cast<T>(f.slope[0] * (along_a + along_b) / 2);
  grad_p[3] = static_cast<T>(f.slope[1] * (along_a - along_b) / 2);
  grad_p[4] = static_cast<T>(grad[0] * m[0] + grad[2] * m[2]);
  grad_p[5] = static_cast<T>(grad[1] * m[1] + grad[3] * m[3]);
}

}  // namespace fractalops
