// Constants and sizes of draw_balanced_index, for the CPU and for GPUs. fractalops/reference/draw_balanced_index.py
// defines the rule.
#pragma once

#include <cstdint>

namespace fractalops {

inline constexpr int32_t balanced_unit = 1 << 20;         // probabilities are multiples of 1 / balanced_unit
inline constexpr int64_t balanced_most_counts = 1 << 20;  // maximum number of counts of one context length

// Returns D, the length of the longest contexts that are counted. Contexts have 1 to D maps; D = 0 means no contexts.
inline int balanced_depth(int64_t maps, int64_t points) {
  int depth = 0;
  for (int64_t contexts = maps; maps > 1 && 2 * contexts <= points && contexts * maps <= balanced_most_counts;
       contexts *= maps)
    ++depth;
  return depth;
}

}  // namespace fractalops
