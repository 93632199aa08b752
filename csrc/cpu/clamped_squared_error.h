// The squared error of images, clamped to [0, 1] or not, and its derivative. This file does not include torch, so that
// the sanitizer tests can compile it separately.
#pragma once

#include <cstdint>
#include <limits>

#include "../division.h"
#include "instruction_set.h"

namespace fractalops::cpu {

// The range to which the values of an image are clamped. It is infinite if they are not clamped.
template <typename T>
struct PixelRange {
  T low, high;

  explicit PixelRange(bool clamped)
      : low(clamped ? T(0) : -std::numeric_limits<T>::infinity()),
        high(clamped ? T(1) : std::numeric_limits<T>::infinity()) {}
};

// A sum of (clamp(image) - target)^2. Each lane has a partial sum, so that the loop vectorizes and the order of the
// additions is fixed. The partial sums are moved to the total before they have so many terms that rounding is
// noticeable.
template <typename T>
class SquaredErrors {
 public:
  FRACTALOPS_INLINE void add(const T* image /* (pixels) */, const T* target /* (pixels) */, int64_t pixels,
                             const PixelRange<T>& range) {
    for (int64_t begin = 0, end; begin < pixels; begin = end) {
      if (left_ == 0) move();
      end = pixels - begin < left_ * lanes ? pixels : begin + left_ * lanes;
      left_ -= divide_up(end - begin, lanes);
      add_part(image + begin, target + begin, end - begin, range);
    }
  }

  FRACTALOPS_INLINE double total() const {
    double total = total_;
    for (int lane = 0; lane < lanes; ++lane) total += sums_[lane];
    return total;
  }

 private:
  static constexpr int lanes = 16;
  static constexpr int64_t most = 1024;  // terms of a lane between two moves

  FRACTALOPS_INLINE void add_part(const T* image /* (pixels) */, const T* target /* (pixels) */, int64_t pixels,
                                  const PixelRange<T>& range) {
    const auto square = [&](int64_t i) {
      const T x = image[i], limited = x < range.low ? range.low : x > range.high ? range.high : x;
      const T difference = limited - target[i];
      return difference * difference;
    };
    int64_t i = 0;
    for (; i + lanes <= pixels; i += lanes)
      for (int lane = 0; lane < lanes; ++lane) sums_[lane] += square(i + lane);
    for (int lane = 0; i < pixels; ++i, ++lane) sums_[lane] += square(i);
  }

  FRACTALOPS_INLINE void move() {
    total_ = total();
    for (int lane = 0; lane < lanes; ++lane) sums_[lane] = 0;
    left_ = most;
  }

  T sums_[lanes] = {};
  double total_ = 0;
  int64_t left_ = most;
};

// grad <- factor * (image - target) inside the range, including its limits, and 0 outside.
template <typename T>
FRACTALOPS_INLINE void clamped_squares_adjoint(const T* image /* (pixels) */, const T* target /* (pixels) */,
                                               int64_t pixels, T factor, const PixelRange<T>& range,
                                               T* grad /* (pixels) */) {
  for (int64_t i = 0; i < pixels; ++i) {
    const T slope = factor * (image[i] - target[i]);
    grad[i] = ((image[i] >= range.low) & (image[i] <= range.high)) ? slope : T(0);
  }
}

}  // namespace fractalops::cpu
