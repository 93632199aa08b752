// What every CPU op does with its tensors: read and write them as contiguous arrays, split work over torch's threads.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <cstdint>

namespace fractalops::cpu {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <typename T>
const T* data(const Tensor& contiguous) {
  return static_cast<const T*>(contiguous.const_data_ptr());
}

template <typename T>
T* mutable_data(Tensor& contiguous) {
  return static_cast<T*>(contiguous.mutable_data_ptr());
}

// Calls work(begin, end) over parts of [0, tasks), each worth at least this many points: waking a thread costs as much
// as drawing a few hundred.
template <typename Work>
void split_tasks(int64_t tasks, int64_t points_per_task, const Work& work) {
  constexpr int64_t points_per_thread = 1024;
  const int64_t grain = std::max<int64_t>(1, points_per_thread / std::max<int64_t>(1, points_per_task));
  torch::stable::parallel_for(0, tasks, grain, work);
}

}  // namespace fractalops::cpu
