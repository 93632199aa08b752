// Drawing indices by inverting a cumulative distribution. No torch in here, so that the sanitizers can run it alone.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace fractalops::cpu {

// The upper bounds in [0, 1] of all outcomes but the last, for probabilities weight / sum, at least `floor` before they
// are scaled to sum 1; equal ones where the weights are all zero or not all finite.
template <typename T>
void cumulative_bounds(const double* weight /* (count) */, int64_t count, double floor, T* bounds /* (count - 1) */) {
  double sum = 0;
  for (int64_t n = 0; n < count; ++n) sum += weight[n];
  const bool usable = sum > 0 && std::isfinite(sum);
  const auto share = [&](int64_t n) { return std::max(usable ? weight[n] / sum : 1.0 / count, floor); };
  double raised = 0, below = 0;
  for (int64_t n = 0; n < count; ++n) raised += share(n);
  for (int64_t n = 0; n + 1 < count; ++n) bounds[n] = static_cast<T>((below += share(n)) / raised);
}

// For each number, how many of the ascending bounds don't exceed it.
template <typename T, typename Index>
void count_bounds(const T* bounds /* (count) */, int64_t count, const T* numbers /* (length) */, int64_t length,
                  Index* out /* (length) */) {
  // Few bounds: comparing with each of them, without a branch, vectorizes. Many: a binary search.
  constexpr int64_t few = 32;
  for (int64_t i = 0; i < length; ++i) {
    if (count <= few) {
      int32_t below = 0;
      for (int64_t n = 0; n < count; ++n) below += bounds[n] <= numbers[i];
      out[i] = static_cast<Index>(below);
    } else {
      out[i] = static_cast<Index>(std::upper_bound(bounds, bounds + count, numbers[i]) - bounds);
    }
  }
}

}  // namespace fractalops::cpu
