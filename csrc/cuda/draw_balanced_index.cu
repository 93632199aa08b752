// draw_balanced_index on NVIDIA GPUs: what is decided on the host, and its registration. The kernels are in
// draw_balanced_index.h; shapes are checked in fractalops/ops/draw_balanced_index.py. Nothing here waits for the
// device, and nothing depends on values: a CUDA graph can capture it.
#include "draw_balanced_index.h"

#include <limits>
#include <optional>

#include "launch.h"

namespace fractalops::cuda {
namespace {

// Of the counts that don't fit into shared memory. So much stays in the second level's cache of a large card; the rest
// of the sequences waits for its turn.
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
  blocks = std::min(blocks, most_counts_in_global / bytes);  // a sequence's are 8 MB at most
  Tensor counts = torch::stable::new_empty(uniform, {blocks * draws.counts}, ScalarType::Int);  // (blocks, counts)
  draws.counts_in_global = mutable_data<int32_t>(counts);
  launcher.launch(draw_balanced_index_sequences<T, Index>, blocks, lanes, 0, draws);
}

template <typename T>
void draw(const Launcher& launcher, const Tensor& share, const Tensor& uniform, bool small, Tensor& index) {
  small ? draw<T, uint8_t>(launcher, share, uniform, index) : draw<T, int32_t>(launcher, share, uniform, index);
}

Tensor draw_balanced_index(const Tensor& weight_in, const Tensor& uniform_in, double floor) {
  STD_TORCH_CHECK(weight_in.get_device_index() == uniform_in.get_device_index(),
                  "draw_balanced_index: all tensors must be on one device");
  const Launcher launcher("draw_balanced_index", uniform_in);
  const Tensor weight = torch::stable::contiguous(weight_in);    // (S, N)
  const Tensor uniform = torch::stable::contiguous(uniform_in);  // (S, K, T)
  check_shape("draw_balanced_index", "weight", weight, {uniform.size(0), weight.size(1)});
  STD_TORCH_CHECK(uniform.dim() == 3, "draw_balanced_index: uniform must be (S, K, T)");
  const int64_t systems = weight.size(0), maps = weight.size(1);
  STD_TORCH_CHECK(maps > 0 && maps <= std::numeric_limits<int>::max(), "draw_balanced_index: weight must hold maps");
  STD_TORCH_CHECK(uniform.scalar_type() == ScalarType::Float || uniform.scalar_type() == ScalarType::Double,
                  "draw_balanced_index: uniform must be float32 or float64");
  const bool small = maps <= 256;
  Tensor index = torch::stable::new_empty(uniform, {uniform.size(0), uniform.size(1), uniform.size(2)},
                                          small ? ScalarType::Byte : ScalarType::Int);
  if (index.numel() == 0) return index;
  Tensor share = torch::stable::new_empty(uniform, {systems, maps}, ScalarType::Int);
  launcher.launch(draw_balanced_index_shares, grid(systems), lanes, 0, data<double>(weight), systems,
                  static_cast<int>(maps), floor, mutable_data<int32_t>(share));
  uniform.scalar_type() == ScalarType::Float ? draw<float>(launcher, share, uniform, small, index)
                                             : draw<double>(launcher, share, uniform, small, index);
  return index;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fractalops, CUDA, library) {
  library.impl("draw_balanced_index", TORCH_BOX(&draw_balanced_index));
}

}  // namespace fractalops::cuda
