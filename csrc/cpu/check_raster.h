// Checks of an image's size, the cutoff and the bandwidth, for direct calls of torch.ops.fractalops.
#pragma once

#include <limits>

#include "../tensors.h"

namespace fractalops::cpu {

inline void check_image(const char* op, int64_t channels, int64_t height, int64_t width, double cutoff) {
  STD_TORCH_CHECK(channels >= 1, op, ": an image must have at least one channel, got ", channels);
  for (const int64_t side : {height, width})
    STD_TORCH_CHECK(side >= 1 && side < 1 << 22, op, ": size must lie in [1, 2^22), got ", side);
  STD_TORCH_CHECK(cutoff >= 0 && cutoff < 1, op, ": cutoff must lie in [0, 1), got ", cutoff);
}

// A bandwidth of NaN, zero or infinity gives windows without a size. The inverse of a subnormal bandwidth is not
// finite. The inverse of a bandwidth near the end of the range is subnormal, so that gradients would be flushed to
// zero.
template <typename T>
void check_bandwidth(const char* op, T bandwidth) {
  constexpr T least = std::numeric_limits<T>::min();
  STD_TORCH_CHECK(bandwidth >= least && bandwidth <= T(1) / least, op,
                  ": bandwidth and its inverse must be normal numbers above 0, got ", bandwidth);
}

}  // namespace fractalops::cpu
