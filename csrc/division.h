// Integer division that rounds up.
#pragma once

#include <cstdint>

namespace fractalops {

inline constexpr int64_t divide_up(int64_t count, int64_t by) { return (count + by - 1) / by; }

inline constexpr int64_t round_up(int64_t value, int64_t multiple) { return divide_up(value, multiple) * multiple; }

}  // namespace fractalops
