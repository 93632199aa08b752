// What every CPU op does with its work: split it over torch's threads.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdint>

namespace fractalops::cpu {

// Calls work(begin, end) over parts of [0, tasks), each worth at least this many points: less stays on one thread.
template <typename Work>
void split_tasks(int64_t tasks, int64_t points_per_task, const Work& work) {
  constexpr int64_t points_per_thread = 1024;
  const int64_t grain = std::max<int64_t>(1, points_per_thread / std::max<int64_t>(1, points_per_task));
  torch::stable::parallel_for(0, tasks, grain, work);
}

}  // namespace fractalops::cpu
