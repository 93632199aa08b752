// Gradient clipping, Adam and SGD for the parameters of one system, as in fractalops/fitting, which uses torch's
// functions. This file does not include torch, so that the sanitizer tests can compile it separately.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "instruction_set.h"

namespace fractalops::cpu {

// Scales a gradient down to the norm `limit`, like clip_gradients in fractalops/fitting/learning.py.
FRACTALOPS_INLINE void clip_gradient(double limit, int64_t count, float* grad /* (count) */) {
  double squares = 0;
  for (int64_t p = 0; p < count; ++p) squares += static_cast<double>(grad[p]) * grad[p];
  const float norm = static_cast<float>(std::sqrt(squares)) + 1e-6f;
  const float factor = static_cast<float>(limit) / norm;
  if (factor >= 1) return;  // false for NaN, which then reaches the parameters
  for (int64_t p = 0; p < count; ++p) grad[p] *= factor;
}

// Adam (Kingma and Ba 2015) with the constants of torch.optim.Adam.
struct Adam {
  static constexpr double first_decay = 0.9, second_decay = 0.999;
  float step_size, correction;

  // `step` counts from 1.
  Adam(double rate, int64_t step)
      : step_size(static_cast<float>(rate / (1 - std::pow(first_decay, static_cast<double>(step))))),
        correction(static_cast<float>(std::sqrt(1 - std::pow(second_decay, static_cast<double>(step))))) {}

  FRACTALOPS_INLINE void operator()(int64_t count, const float* grad /* (count) */, float* mean /* (count) */,
                                    float* square /* (count) */, float* parameter /* (count) */) const {
    constexpr float new_first = static_cast<float>(1 - first_decay), old_second = static_cast<float>(second_decay);
    constexpr float new_second = static_cast<float>(1 - second_decay), epsilon = 1e-8f;
    for (int64_t p = 0; p < count; ++p) {
      mean[p] += new_first * (grad[p] - mean[p]);
      square[p] = old_second * square[p] + new_second * grad[p] * grad[p];
      parameter[p] -= step_size * mean[p] / (std::sqrt(square[p]) / correction + epsilon);
    }
  }
};

// One step of torch.optim.SGD with momentum and without dampening.
FRACTALOPS_INLINE void sgd_step(double rate, double momentum, int64_t count, const float* grad /* (count) */,
                                float* velocity /* (count) */, float* parameter /* (count) */) {
  for (int64_t p = 0; p < count; ++p) {
    velocity[p] = static_cast<float>(momentum) * velocity[p] + grad[p];
    parameter[p] -= static_cast<float>(rate) * velocity[p];
  }
}

}  // namespace fractalops::cpu
