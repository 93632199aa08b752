// The mean squared error of images limited to [0, 1], and its derivative. No torch in here, so that the sanitizers can
// run it alone.
#pragma once

#include <cstdint>

namespace fractalops::cpu {

// The sum of (clamp(image) - target)^2; lanes of partial sums, so that it vectorizes in a fixed order.
template <typename T>
double clamped_squares(const T* image /* (pixels) */, const T* target /* (pixels) */, int64_t pixels) {
  constexpr int lanes = 16;
  T sums[lanes] = {};
  const auto square = [&](int64_t i) {
    const T x = image[i], clamped = x < T(0) ? T(0) : x > T(1) ? T(1) : x, difference = clamped - target[i];
    return difference * difference;
  };
  int64_t i = 0;
  for (; i + lanes <= pixels; i += lanes)
    for (int lane = 0; lane < lanes; ++lane) sums[lane] += square(i + lane);
  for (int lane = 0; i < pixels; ++i, ++lane) sums[lane] += square(i);
  double total = 0;
  for (int lane = 0; lane < lanes; ++lane) total += sums[lane];
  return total;
}

// factor * (image - target) inside [0, 1], borders included, and 0 outside.
template <typename T>
void clamped_squares_adjoint(const T* image /* (pixels) */, const T* target /* (pixels) */, int64_t pixels, T factor,
                             T* grad /* (pixels) */) {
  for (int64_t i = 0; i < pixels; ++i) {
    const T slope = factor * (image[i] - target[i]);
    grad[i] = ((image[i] >= T(0)) & (image[i] <= T(1))) ? slope : T(0);
  }
}

}  // namespace fractalops::cpu
