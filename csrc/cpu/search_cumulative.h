// The search behind search_cumulative. No torch in here, so that the sanitizers can run it alone.
#pragma once

#include <algorithm>
#include <cstdint>

namespace fractalops::cpu {

// For each number, how many of the ascending bounds don't exceed it.
template <typename T, typename Index>
void count_bounds(const T* bounds /* (count) */, int64_t count, const T* numbers /* (length) */, int64_t length,
                  Index* out /* (length) */) {
  // Few bounds: comparing with each of them, without a branch, vectorises. Many: a binary search.
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
