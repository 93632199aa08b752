// What an image and its window must be: checks for those who call torch.ops.fractalops directly.
#pragma once

#include <cmath>
#include <limits>

#include "../tensors.h"

namespace fractalops::cpu {

inline void check_image(const char* op, int64_t channels, int64_t height, int64_t width, double cutoff) {
  STD_TORCH_CHECK(channels >= 1, op, ": an image must have channels");
  for (const int64_t side : {height, width})
    STD_TORCH_CHECK(side >= 1 && side < 1 << 22, op, ": size must lie in [1, 2^22), got ", side);
  STD_TORCH_CHECK(cutoff >= 0 && cutoff < 1, op, ": cutoff must lie in [0, 1), got ", cutoff);
}

// A bandwidth of NaN, zero or infinity gives windows without a size; a subnormal one has no finite inverse.
template <typename T>
void check_bandwidth(const char* op, T bandwidth) {
  STD_TORCH_CHECK(bandwidth >= std::numeric_limits<T>::min() && std::isfinite(bandwidth), op,
                  ": bandwidth must be finite and above 0, got ", bandwidth);
}

}  // namespace fractalops::cpu
