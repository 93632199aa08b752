// draw_balanced_index on NVIDIA GPUs: the op's host code and its registration. The kernels are in
// draw_balanced_index.h. Shapes are checked in fractalops/ops/draw_balanced_index.py and, for direct calls of the op,
// here. Nothing waits for the device, and launches do not depend on values, so a CUDA graph can capture them.
#include "draw_balanced_index.h"

#include <limits>

#include "../draw_by_type.h"
#include "launch.h"

namespace fractalops::cuda {
namespace {

// The memory for counts that do not fit into shared memory. This much stays in the L2 cache of a large GPU. The blocks
// process the remaining sequences later.
constexpr int64_t most_counts_in_global = 64 << 20;  // bytes

template <typename T, typename Index>
void draw(const Launcher& launcher, const Tensor& share, const Tensor& uniform, Tensor& index) {
  const int64_t maps = share.size(1), points = uniform.size(2);
  BalancedSequences<T, Index> draws{data<int32_t>(share),
                                    data<T>(uniform),
                                    mutable_data<Index>(index),
                                    nullptr,
                                    uniform.size(0) * uniform.size(1),
                                    uniform.size(1),
                                    points,
                                    static_cast<int>(maps),
                                    balanced_depth(maps, points),
                                    0};
  int64_t size = maps;
  for (int d = 1; d <= draws.depth; ++d) draws.counts += static_cast<int>(size *= maps);
  const int64_t bytes = draws.counts * static_cast<int64_t>(sizeof(int32_t));
  int64_t blocks = grid(draws.sequences);
  if (bytes <= shared_limit) {
    launcher.launch(draw_balanced_index_sequences<T, Index>, blocks, lanes, bytes, draws);
    return;
  }
  blocks = std::min(blocks, most_counts_in_global / bytes);                     // at most 8 MB per sequence
  Tensor counts = allocate(uniform, {blocks * draws.counts}, ScalarType::Int);  // (blocks, counts)
  draws.counts_in_global = mutable_data<int32_t>(counts);
  launcher.launch(draw_balanced_index_sequences<T, Index>, blocks, lanes, 0, draws);
}

Tensor draw_balanced_index(const Tensor& weight_in, const Tensor& uniform_in, double floor) {
  check_drawing("draw_balanced_index", weight_in, uniform_in, "SKT");
  const Launcher launcher("draw_balanced_index", uniform_in);
  const Tensor weight = torch::stable::contiguous(weight_in);    // (S, N)
  const Tensor uniform = torch::stable::contiguous(uniform_in);  // (S, K, T)
  const int64_t systems = weight.size(0), maps = weight.size(1);
  STD_TORCH_CHECK(maps <= std::numeric_limits<int>::max(),
                  "draw_balanced_index: weight must have at most 2^31 - 1 maps, got ", maps);
  return draw_by_type("draw_balanced_index", weight, uniform, [&]<typename T, typename Index>(T, Index, Tensor& index) {
    if (index.numel() == 0) return;
    Tensor share = allocate(uniform, {systems, maps}, ScalarType::Int);
    launcher.launch(draw_balanced_index_shares, grid(systems), lanes, 0, data<double>(weight), systems,
                    static_cast<int>(maps), floor, mutable_data<int32_t>(share));
    draw<T, Index>(launcher, share, uniform, index);
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fractalops, CUDA, library) { library.impl(FRACTALOPS_OP(draw_balanced_index)); }

}  // namespace fractalops::cuda
