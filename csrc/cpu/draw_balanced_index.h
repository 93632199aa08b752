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
#include "with_constant.h"

namespace fractalops::cpu {

inline constexpr int balanced_lanes = 5;         // sequences that are drawn side by side
inline constexpr int balanced_width = 16;        // rows of counts are padded to multiples of it: to whole vectors
inline constexpr int balanced_most_depth = 20;   // of two maps
inline constexpr int balanced_narrow_depth = 4;  // up to which there are kernels of their own

inline int64_t balanced_stride(int64_t maps) { return round_up(maps, balanced_width); }

// The memory in which up to balanced_lanes sequences are drawn side by side, made once for any number of calls.
struct BalancedCounts {
  struct alignas(64) Row {
    int32_t values[balanced_width];
  };

  int64_t maps, points, stride;
  int depth;                           // D
  int64_t place[balanced_most_depth];  // (D): where a sequence's rows of each context length begin
  int64_t size = 0;                    // of one sequence
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

  // What a context of d = 1 to D maps owes each map, in multiples of 1 / balanced_unit: (lanes)(D)(N^d, stride).
  int32_t* owed() { return memory.data()->values; }
  // (stride) or, where the rows have one width, a row for each map.
  int32_t* scratch() { return owed() + balanced_lanes * size; }
};

// Probabilities in units that add up to balanced_unit, and zeros after them.
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
