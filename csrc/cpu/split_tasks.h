// What every CPU op does with its work: split it over torch's threads.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <exception>
#include <mutex>

namespace fractalops::cpu {

// The least work of a thread, in nanoseconds. A region takes microseconds to enter and leave; on a machine whose cores
// are busy, where a thread waits until it is scheduled, a thousand times as many.
inline constexpr double least_thread_time = 200e3;

// Whether work was split in this process. One that is forked from it lacks the threads, for which OpenMP would wait
// forever; see fractalops/backends.py.
inline std::atomic<bool> used_threads = false;

// Calls work(begin, end) over parts of [0, tasks). A part whose tasks, of which each takes about `task_time`
// nanoseconds, are less than a thread's least work is not split off.
template <typename Work>
void split_tasks(int64_t tasks, double task_time, const Work& work) {
  const auto grain = static_cast<int64_t>(std::ceil(least_thread_time / std::max(task_time, 1.0)));
  if (tasks > grain && torch::stable::get_num_threads() > 1) used_threads = true;
  std::mutex mutex;
  std::exception_ptr error;  // of a thread: the stable ABI doesn't pass on which one
  torch::stable::parallel_for(0, tasks, grain, [&](int64_t begin, int64_t end) {
    try {
      work(begin, end);
    } catch (...) {
      const std::lock_guard lock(mutex);
      error = std::current_exception();
    }
  });
  if (error) std::rethrow_exception(error);
}

}  // namespace fractalops::cpu
