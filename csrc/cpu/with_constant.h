// Passes a run-time number as a template argument.
#pragma once

#include <cstdint>
#include <type_traits>

#include "instruction_set.h"

namespace fractalops::cpu {

// Calls run(std::integral_constant<int, value>) if 1 <= value <= Most, and returns its result. Otherwise returns false.
template <int Most, typename Run>
FRACTALOPS_INLINE bool with_constant(int64_t value, const Run& run) {
  if constexpr (Most > 0) {
    if (value != Most) return with_constant<Most - 1>(value, run);
    return run(std::integral_constant<int, Most>{});
  }
  return false;
}

}  // namespace fractalops::cpu
