// svd_matrix on the CPU: the forward and the backward are each one loop over the maps. The arithmetic is in
// ../svd_matrix.h. Shapes are checked in fractalops/ops/svd_matrix.py and, for direct calls of the op, here.
#include "../svd_matrix.h"

#include "../tensors.h"
#include "split_tasks.h"

namespace fractalops::cpu {
namespace {

constexpr double map_time = 50;  // nanoseconds

Tensor svd_matrix_fwd(const Tensor& svd_in, bool clamped) {
  check_tensors("svd_matrix", {{"svd", svd_in, "M6"}});
  const Tensor svd = torch::stable::contiguous(svd_in);  // (M, 6)
  Tensor matrix = allocate(svd, {svd.size(0), 2, 2});    // (M, 2, 2)
  with_floating("svd_matrix", "svd", svd, [&]<typename T>(T) {
    const T* from = data<T>(svd);     // (M, 6)
    T* to = mutable_data<T>(matrix);  // (M, 2, 2)
    split_tasks(svd.size(0), map_time, [&](int64_t begin, int64_t end) {
      for (int64_t map = begin; map < end; ++map) svd_matrix(from + map * 6, clamped, to + map * 4);
    });
  });
  return matrix;
}

Tensor svd_matrix_bwd(const Tensor& grad_in, const Tensor& svd_in, bool clamped) {
  check_tensors("svd_matrix", {{"svd", svd_in, "M6"}, {"grad", grad_in, "M22"}});
  const Tensor grad = torch::stable::contiguous(grad_in);  // (M, 2, 2)
  const Tensor svd = torch::stable::contiguous(svd_in);    // (M, 6)
  Tensor grad_svd = allocate_like(svd);                    // (M, 6)
  with_floating("svd_matrix", "svd", svd, [&]<typename T>(T) {
    const T* upstream = data<T>(grad);  // (M, 2, 2)
    const T* from = data<T>(svd);       // (M, 6)
    T* to = mutable_data<T>(grad_svd);  // (M, 6)
    split_tasks(svd.size(0), map_time, [&](int64_t begin, int64_t end) {
      for (int64_t map = begin; map < end; ++map)
        svd_matrix_adjoint(from + map * 6, clamped, upstream + map * 4, to + map * 6);
    });
  });
  return grad_svd;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fractalops, CPU, library) {
  library.impl(FRACTALOPS_OP(svd_matrix_fwd));
  library.impl(FRACTALOPS_OP(svd_matrix_bwd));
}

}  // namespace fractalops::cpu
