// affine_chain on the CPU: the op's two functions and its registration. The arithmetic is in affine_chain_kernel.h, the
// split of the work in affine_chain_pieces.h. Shapes are checked in fractalops/ops/affine_chain.py and, for direct
// calls of the op, here.
#include "../affine_chain.h"

#include <tuple>
#include <vector>

#include "affine_chain.h"
#include "split_tasks.h"

#define FRACTALOPS_NARROW_KERNEL
#define FRACTALOPS_KERNEL "affine_chain_kernel.h"
#include "foreach_instruction_set.h"

#include "affine_chain_pieces.h"

namespace fractalops::cpu {
namespace {

template <typename T, typename Index>
AffineChain<T, Index> describe(const Tensor& matrix, const Tensor& offset, const Tensor& index, const Tensor& start) {
  const Index* maps = data<Index>(index);  // (B, T)
  check_inside("affine_chain", maps, index.size(0) * index.size(1), matrix.size(0));
  return {data<T>(matrix), data<T>(offset), maps, data<T>(start), matrix.size(0), index.size(0), index.size(1)};
}

// Returns the index, converted from int64 to int32 if necessary. Kernels for int64 would only make the library larger.
Tensor narrow(const Tensor& index, int64_t maps) {
  if (index.scalar_type() != ScalarType::Long) return index;
  const int64_t count = index.size(0) * index.size(1);
  const int64_t* from = data<int64_t>(index);  // (B, T)
  check_inside("affine_chain", from, count, maps);
  Tensor small = allocate(index, index.sizes(), ScalarType::Int);
  std::copy_n(from, count, mutable_data<int32_t>(small));
  return small;
}

const auto split = [](int64_t tasks, double task_time, const auto& work) { split_tasks(tasks, task_time, work); };

template <typename T, int D, typename Index>
void backward(const AffineChain<T, Index>& chain, const Tensor& grad, const Tensor& points, Tensor& grad_matrix,
              Tensor& grad_offset, Tensor& grad_start) {
  std::vector<MapGradient<D>> maps(chain.maps);  // (N), zeros
  const ChainGradients<T, D> gradients{data<T>(grad), data<T>(points), maps.data(), mutable_data<T>(grad_start)};
  chain_backward<T, D>(chain, gradients, split);
  T* matrix = mutable_data<T>(grad_matrix);  // (N, D, D)
  T* offset = mutable_data<T>(grad_offset);  // (N, D)
  for (int64_t map = 0; map < chain.maps; ++map)
    for (int i = 0; i < D; ++i) {
      for (int j = 0; j < D; ++j) matrix[(map * D + i) * D + j] = static_cast<T>(maps[map].matrix[i][j]);
      offset[map * D + i] = static_cast<T>(maps[map].offset[i]);
    }
}

// Calls run(T{}, D, Index{}) with the types of the tensors. D is a std::integral_constant.
template <typename Run>
void with_types(const Tensor& matrix, const Tensor& index, const Run& run) {
  with_matrix(matrix, [&](auto scalar, auto dimensions) {
    if (index.scalar_type() == ScalarType::Byte) return run(scalar, dimensions, uint8_t{});
    run(scalar, dimensions, int32_t{});
  });
}

// Only the GPU op has more than one form.
void check_form(int64_t form) { STD_TORCH_CHECK(form == 0, "affine_chain: form must be 0 on the CPU, got ", form); }

Tensor affine_chain_fwd(const Tensor& matrix_in, const Tensor& offset_in, const Tensor& index_in,
                        const Tensor& start_in, int64_t form) {
  check_form(form);
  check_forward(matrix_in, offset_in, index_in, start_in);
  const Tensor matrix = torch::stable::contiguous(matrix_in);  // (N, D, D)
  const Tensor offset = torch::stable::contiguous(offset_in);  // (N, D)
  const Tensor whole = torch::stable::contiguous(index_in);    // (B, T)
  const Tensor start = torch::stable::contiguous(start_in);    // (B, D)
  const Tensor index = narrow(whole, matrix.size(0));
  Tensor points = allocate(matrix, {index.size(0), index.size(1), matrix.size(1)});
  with_types(matrix, index, [&]<typename T, int D, typename Index>(T, std::integral_constant<int, D>, Index) {
    chain_forward<T, D>(describe<T, Index>(matrix, offset, index, start), mutable_data<T>(points), split);
  });
  return points;
}

std::tuple<Tensor, Tensor, Tensor> affine_chain_bwd(const Tensor& grad_in, const Tensor& matrix_in,
                                                    const Tensor& index_in, const Tensor& start_in,
                                                    const Tensor& points_in, int64_t form) {
  check_form(form);
  check_backward(grad_in, matrix_in, index_in, start_in, points_in);
  const Tensor grad = torch::stable::contiguous(grad_in);      // (B, T, D)
  const Tensor matrix = torch::stable::contiguous(matrix_in);  // (N, D, D)
  const Tensor whole = torch::stable::contiguous(index_in);    // (B, T)
  const Tensor start = torch::stable::contiguous(start_in);    // (B, D)
  const Tensor points = torch::stable::contiguous(points_in);  // (B, T, D)
  const Tensor index = narrow(whole, matrix.size(0));
  Tensor grad_matrix = allocate_like(matrix);
  Tensor grad_offset = allocate(matrix, {matrix.size(0), matrix.size(1)});
  Tensor grad_start = allocate_like(start);
  with_types(matrix, index, [&]<typename T, int D, typename Index>(T, std::integral_constant<int, D>, Index) {
    // The backward does not read the offset, so the matrix is passed in its place.
    backward<T, D>(describe<T, Index>(matrix, matrix, index, start), grad, points, grad_matrix, grad_offset,
                   grad_start);
  });
  return {grad_matrix, grad_offset, grad_start};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fractalops, CPU, library) {
  library.impl(FRACTALOPS_OP(affine_chain_fwd));
  library.impl(FRACTALOPS_OP(affine_chain_bwd));
}

}  // namespace fractalops::cpu
