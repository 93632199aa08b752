// Drawing balanced sequences: the counts that sequences keep, and their sizes. No torch in here, so that the sanitizers
// can run it alone.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "../balanced_counts.h"
#include "../division.h"
#include "draw_index.h"

namespace fractalops::cpu {

constexpr int64_t balanced_width = 8;  // rows of counts are padded to whole vectors
constexpr int balanced_lanes = 4;      // sequences that a thread draws side by side

inline int64_t balanced_stride(int64_t maps) { return round_up(maps, balanced_width); }

// What a context of d = 1 to D maps owes each map, in multiples of 1 / balanced_unit: one sequence's.
struct BalancedCounts {
  std::vector<int64_t> contexts;           // (D): N^d
  std::vector<std::vector<int32_t>> owed;  // (D)(N^d, stride)

  BalancedCounts(int64_t maps, int64_t points) {
    int64_t count = 1;
    for (int depth = balanced_depth(maps, points); depth > 0; --depth) {
      contexts.push_back(count *= maps);
      owed.emplace_back(count * balanced_stride(maps));
    }
  }
};

// Probabilities in units that add up to balanced_unit, and zeros after them.
inline void balanced_shares(const double* weight /* (N) */, int64_t maps, double floor, int32_t* share /* (stride) */) {
  std::vector<double> bounds(maps - 1);
  cumulative_bounds(weight, maps, floor, bounds.data());
  int32_t below = 0;
  for (int64_t n = 0; n < maps; ++n) {
    const int32_t bound =
        n + 1 < maps ? static_cast<int32_t>(std::nearbyint(bounds[n] * balanced_unit)) : balanced_unit;
    share[n] = bound - below;
    below = bound;
  }
}

}  // namespace fractalops::cpu
