// draw_balanced_index on the CPU: the op's registration and how its work is split. Shapes are checked in
// fractalops/ops/draw_balanced_index.py and, for direct calls of the op, here.
#include "draw_balanced_index.h"

#include "../draw_by_type.h"
#include "split_tasks.h"

#define FRACTALOPS_KERNEL "draw_balanced_index_kernel.h"
#include "foreach_instruction_set.h"

namespace fractalops::cpu {
namespace {

template <typename T, typename Index>
void draw(const Tensor& weight, const Tensor& uniform, double floor, Tensor& index) {
  const int64_t systems = weight.size(0), maps = weight.size(1), sequences = uniform.size(1), points = uniform.size(2);
  const T* numbers = data<T>(uniform);      // (S, K, T)
  Index* out = mutable_data<Index>(index);  // (S, K, T)
  const int64_t groups = divide_up(sequences, balanced_lanes), stride = balanced_stride(maps);
  std::vector<double> bounds(maps - 1);           // (N - 1)
  std::vector<int32_t> shares(systems * stride);  // (S, stride)
  for (int64_t s = 0; s < systems; ++s)
    balanced_shares(data<double>(weight) + s * maps, maps, floor, bounds.data(), shares.data() + s * stride);
  const double point_time = 10.0 + 0.5 * static_cast<double>(maps);  // nanoseconds
  split_tasks(systems * groups, point_time * static_cast<double>(balanced_lanes * points),
              [&](int64_t begin, int64_t end) {
                BalancedCounts counts(maps, points);
                for (int64_t task = begin; task < end; ++task) {
                  const int64_t system = task / groups, first = task % groups * balanced_lanes;
                  const int64_t place = (system * sequences + first) * points;
                  FRACTALOPS_SELECT(draw_balanced_sequences<T, Index>)
                  (shares.data() + system * stride, counts, numbers + place,
                   std::min<int64_t>(balanced_lanes, sequences - first), out + place);
                }
              });
}

Tensor draw_balanced_index(const Tensor& weight_in, const Tensor& uniform_in, double floor) {
  check_drawing("draw_balanced_index", weight_in, uniform_in, "SKT");
  const Tensor weight = torch::stable::contiguous(weight_in);    // (S, N)
  const Tensor uniform = torch::stable::contiguous(uniform_in);  // (S, K, T)
  return draw_by_type("draw_balanced_index", weight, uniform, [&]<typename T, typename Index>(T, Index, Tensor& index) {
    draw<T, Index>(weight, uniform, floor, index);
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fractalops, CPU, library) { library.impl(FRACTALOPS_OP(draw_balanced_index)); }

}  // namespace fractalops::cpu
