// Conversion of maps to pixel coordinates by a viewport, as by fold_viewport in fractalops/placement.py, and its
// derivative. The points of the converted chain are pixel coordinates. This file does not include torch, so that the
// sanitizer tests can compile it separately.
#pragma once

#include <cstdint>

namespace fractalops::cpu {

// u = s v + o maps the viewport's corners to the centers of the corner pixels.
struct FoldedViewport {
  float scale[2], shift[2];

  FoldedViewport(const double* low /* (2) */, const double* high /* (2) */, int64_t height, int64_t width) {
    const int64_t sides[2] = {height, width};
    for (int i = 0; i < 2; ++i) {
      const double pixels = static_cast<double>(sides[i] - 1) / (high[i] - low[i]);
      scale[i] = static_cast<float>(pixels);
      shift[i] = static_cast<float>(-low[i] * pixels);
    }
  }

  float ratio(int i, int j) const { return scale[i] / scale[j]; }

  // Computes u = s v + o for one point.
  void place(const float* point /* (2) */, float* placed /* (2) */) const {
    for (int i = 0; i < 2; ++i) placed[i] = point[i] * scale[i] + shift[i];
  }

  // Computes A' = S A S^-1 and b' = S b + o - A' o for one map.
  void fold(const float* matrix /* (2, 2) */, const float* offset /* (2) */, float* folded_matrix /* (2, 2) */,
            float* folded_offset /* (2) */) const {
    for (int i = 0; i < 2; ++i) {
      float moved = 0;
      for (int j = 0; j < 2; ++j) {
        folded_matrix[2 * i + j] = matrix[2 * i + j] * ratio(i, j);
        moved += folded_matrix[2 * i + j] * shift[j];
      }
      folded_offset[i] = offset[i] * scale[i] + (shift[i] - moved);
    }
  }

  // Computes the gradients of A and b from those of A' and b'.
  void fold_adjoint(const float* grad_folded_matrix /* (2, 2) */, const float* grad_folded_offset /* (2) */,
                    float* grad_matrix /* (2, 2) */, float* grad_offset /* (2) */) const {
    for (int i = 0; i < 2; ++i) {
      for (int j = 0; j < 2; ++j)
        grad_matrix[2 * i + j] = (grad_folded_matrix[2 * i + j] - grad_folded_offset[i] * shift[j]) * ratio(i, j);
      grad_offset[i] = grad_folded_offset[i] * scale[i];
    }
  }
};

}  // namespace fractalops::cpu
