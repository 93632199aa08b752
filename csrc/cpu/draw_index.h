// Draws indices by inverting a cumulative distribution. This file does not include torch, so that the sanitizer tests
// can compile it separately.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace fractalops::cpu {

// Writes the upper bounds, in [0, 1], of all outcomes except the last. The probabilities are weight / sum, raised to at
// least `floor` and then scaled to sum 1. They are equal if the sum of the weights is not above 0 or not finite.
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

// Writes, for each number, how many of the bounds do not exceed it. The bounds must be ascending.
template <typename T, typename Index>
void count_bounds(const T* bounds /* (count) */, int64_t count, const T* numbers /* (length) */, int64_t length,
                  Index* out /* (length) */) {
  // For few bounds, the comparison with each of them has no branch and vectorizes. For many, there is a binary search.
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
