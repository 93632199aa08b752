// The fixed point of an affine map of the plane. This file does not include torch, so that the sanitizer tests can
// compile it separately.
#pragma once

#include <cmath>

#include "instruction_set.h"

namespace fractalops::cpu {

// Solves x = A x + b by Cramer's rule. If the solution is not finite, x is the offset, with 0 for elements that are not
// finite.
template <typename T>
FRACTALOPS_INLINE void solve_fixed_point(const T* a /* (2, 2) */, const T* b /* (2) */, T* x /* (2) */) {
  const T determinant = (1 - a[0]) * (1 - a[3]) - a[1] * a[2];
  x[0] = ((1 - a[3]) * b[0] + a[1] * b[1]) / determinant;
  x[1] = ((1 - a[0]) * b[1] + a[2] * b[0]) / determinant;
  if (std::isfinite(x[0]) && std::isfinite(x[1])) return;
  for (int i = 0; i < 2; ++i) x[i] = std::isfinite(b[i]) ? b[i] : T(0);
}

}  // namespace fractalops::cpu
