// draw_even_index on the CPU: its registration and how work is split. Shapes are checked in
// fractalops/ops/draw_even_index.py.
#include "draw_even_index.h"

#include "draw_by_type.h"

#define FRACTALOPS_KERNEL "draw_even_index_kernel.h"
#include "foreach_instruction_set.h"

namespace fractalops::cpu {
namespace {

template <typename T, typename Index>
void draw(const Tensor& weight, const Tensor& uniform, double floor, Tensor& index) {
  const int64_t systems = weight.size(0), maps = weight.size(1), sequences = uniform.size(1), points = uniform.size(2);
  const T* numbers = data<T>(uniform);
  Index* out = mutable_data<Index>(index);
  const int64_t stride = even_stride(maps), total = systems * sequences;
  std::vector<int32_t> shares(systems * stride);  // (S, stride)
  for (int64_t s = 0; s < systems; ++s)
    even_shares(data<double>(weight) + s * maps, maps, floor, shares.data() + s * stride);
  split_tasks((total + even_lanes - 1) / even_lanes, even_lanes * points, [&](int64_t begin, int64_t end) {
    std::vector<EvenCounts> counts(even_lanes, EvenCounts(maps, points));  // (lanes)
    std::vector<int32_t> due(stride);                                      // (stride)
    for (int64_t task = begin; task < end; ++task) {
      const int64_t first = task * even_lanes;
      const int lanes = static_cast<int>(std::min<int64_t>(even_lanes, total - first));
      const int32_t* share[even_lanes];  // (lanes)(stride)
      for (int lane = 0; lane < lanes; ++lane) share[lane] = shares.data() + (first + lane) / sequences * stride;
      FRACTALOPS_SELECT(draw_even_sequences<T, Index>)
      (share, maps, numbers + first * points, points, lanes, counts.data(), due.data(), out + first * points);
    }
  });
}

Tensor draw_even_index(const Tensor& weight_in, const Tensor& uniform_in, double floor) {
  const Tensor weight = torch::stable::contiguous(weight_in);    // (S, N)
  const Tensor uniform = torch::stable::contiguous(uniform_in);  // (S, K, T)
  STD_TORCH_CHECK(uniform.dim() == 3, "draw_even_index: uniform must be (S, K, T)");
  return draw_by_type(
      "draw_even_index", weight, uniform, {uniform.size(0), uniform.size(1), uniform.size(2)},
      [&]<typename T, typename Index>(Tensor& index) { draw<T, Index>(weight, uniform, floor, index); });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fractalops, CPU, library) { library.impl("draw_even_index", TORCH_BOX(&draw_even_index)); }

}  // namespace fractalops::cpu
