// What draw_balanced_index counts, on the CPU and on GPUs; the rule stands in
// fractalops/reference/draw_balanced_index.py.
#pragma once

#include <cstdint>

namespace fractalops {

inline constexpr int32_t balanced_unit = 1 << 20;         // in which probabilities are counted
inline constexpr int64_t balanced_most_counts = 1 << 20;  // of one context length

// The longest context that is heeded: D maps, 0 for none.
inline int balanced_depth(int64_t maps, int64_t points) {
  int depth = 0;
  for (int64_t contexts = maps; maps > 1 && 2 * contexts <= points && contexts * maps <= balanced_most_counts;
       contexts *= maps)
    ++depth;
  return depth;
}

}  // namespace fractalops
