// Splits the work of the CPU ops over torch's threads.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <exception>
#include <mutex>

namespace fractalops::cpu {

// The minimum work of a thread, in nanoseconds. Entering and leaving a parallel region takes microseconds. It takes a
// thousand times as long on a machine with busy cores, where a thread waits until it is scheduled.
inline constexpr double least_thread_time = 200e3;

// Whether work was split in this process. A process that is forked from it lacks the threads, and OpenMP would wait for
// them forever. See fractalops/backends.py.
inline std::atomic<bool> used_threads = false;

// Calls work(begin, end) for parts of [0, tasks). A task takes about `task_time` nanoseconds. Each part has at least
// the minimum work of a thread.
template <typename Work>
void split_tasks(int64_t tasks, double task_time, const Work& work) {
  const auto grain = static_cast<int64_t>(std::ceil(least_thread_time / std::max(task_time, 1.0)));
  if (tasks > grain && torch::stable::get_num_threads() > 1) used_threads = true;
  std::mutex mutex;
  std::exception_ptr error;  // of a thread, kept here because the stable ABI does not pass on the type of an error
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
