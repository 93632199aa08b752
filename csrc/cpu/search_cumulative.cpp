// search_cumulative on the CPU: its registration and how work is split. Shapes are checked in
// fractalops/ops/search_cumulative.py.
#include "search_cumulative.h"

#include "tensors.h"

namespace fractalops::cpu {
namespace {

constexpr int64_t task_draws = 4096;

template <typename T, typename Index>
void search(const Tensor& cumulative, const Tensor& uniform, Tensor& index) {
  const int64_t bounds = cumulative.size(1), draws = uniform.size(1);
  const T* tables = data<T>(cumulative);
  const T* numbers = data<T>(uniform);
  Index* out = mutable_data<Index>(index);
  const int64_t tasks = (draws + task_draws - 1) / task_draws;  // of a row
  // A draw costs about a twentieth of drawing a point.
  split_tasks(uniform.size(0) * tasks, std::min(task_draws, draws) / 20, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t row = task / tasks, first = task % tasks * task_draws;
      count_bounds(tables + row * bounds, bounds, numbers + row * draws + first, std::min(task_draws, draws - first),
                   out + row * draws + first);
    }
  });
}

Tensor search_cumulative(const Tensor& cumulative_in, const Tensor& uniform_in) {
  const Tensor cumulative = torch::stable::contiguous(cumulative_in);  // (S, N - 1)
  const Tensor uniform = torch::stable::contiguous(uniform_in);        // (S, M)
  const bool small = cumulative.size(1) < 256;
  Tensor index =
      torch::stable::new_empty(uniform, {uniform.size(0), uniform.size(1)}, small ? ScalarType::Byte : ScalarType::Int);
  if (uniform.scalar_type() == ScalarType::Float) {
    small ? search<float, uint8_t>(cumulative, uniform, index) : search<float, int32_t>(cumulative, uniform, index);
  } else {
    STD_TORCH_CHECK(uniform.scalar_type() == ScalarType::Double,
                    "search_cumulative: uniform must be float32 or float64");
    small ? search<double, uint8_t>(cumulative, uniform, index) : search<double, int32_t>(cumulative, uniform, index);
  }
  return index;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fractalops, CPU, library) {
  library.impl("search_cumulative", TORCH_BOX(&search_cumulative));
}

}  // namespace fractalops::cpu
