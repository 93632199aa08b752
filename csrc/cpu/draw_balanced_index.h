// The counts that balanced drawing keeps for its sequences, and their sizes. This file does not include torch, so that
// the sanitizer tests can compile it separately.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "../balanced_counts.h"
#include "../division.h"
#include "draw_index.h"
#include "with_constant.h"

namespace fractalops::cpu {

inline constexpr int balanced_lanes = 5;         // sequences that are drawn together
inline constexpr int balanced_width = 16;        // rows of counts are padded to a multiple of this: whole vectors
inline constexpr int balanced_most_depth = 20;   // upper bound, for two maps
inline constexpr int balanced_narrow_depth = 4;  // up to this depth, each depth has its own kernel

inline int64_t balanced_stride(int64_t maps) { return round_up(maps, balanced_width); }

// Memory to draw up to balanced_lanes sequences together, allocated once for any number of calls.
struct BalancedCounts {
  struct alignas(64) Row {
    int32_t values[balanced_width];
  };

  int64_t maps, points, stride;
  int depth;                           // D
  int64_t place[balanced_most_depth];  // (D): start of a sequence's rows of each context length
  int64_t size = 0;                    // counts of one sequence
  std::vector<Row> memory;

  BalancedCounts(int64_t maps, int64_t points)
      : maps(maps), points(points), stride(balanced_stride(maps)), depth(balanced_depth(maps, points)) {
    int64_t contexts = 1;
    for (int d = 0; d < depth; ++d) {
      place[d] = size;
      size += (contexts *= maps) * stride;
    }
    memory.resize((balanced_lanes * size + std::max<int64_t>(stride, balanced_width * balanced_width)) /
                  balanced_width);
  }

  // The deficits of each map after contexts of d = 1 to D maps, in multiples of 1 / balanced_unit. Each of the lanes
  // has D arrays (N^d, stride).
  int32_t* owed() { return memory.data()->values; }
  // Scratch memory: (stride) or, if rows have balanced_width elements, one row per map.
  int32_t* scratch() { return owed() + balanced_lanes * size; }
};

// Writes the probabilities as multiples of 1 / balanced_unit. They add up to balanced_unit. Zeros fill the rest of the
// row.
inline void balanced_shares(const double* weight /* (N) */, int64_t maps, double floor,
                            double* bounds /* (N - 1), scratch */, int32_t* share /* (stride) */) {
  cumulative_bounds(weight, maps, floor, bounds);
  int32_t below = 0;
  for (int64_t n = 0; n < maps; ++n) {
    const int32_t bound =
        n + 1 < maps ? static_cast<int32_t>(std::nearbyint(bounds[n] * balanced_unit)) : balanced_unit;
    share[n] = bound - below;
    below = bound;
  }
  std::fill(share + maps, share + balanced_stride(maps), 0);
}

}  // namespace fractalops::cpu
