// fixed_point on the CPU: one loop over the maps. Shapes are checked in fractalops/ops/fixed_point.py and, for direct
// calls of the op, here.
#include "fixed_point.h"

#include "../tensors.h"

namespace fractalops::cpu {
namespace {

Tensor fixed_point(const Tensor& matrix_in, const Tensor& offset_in) {
  check_tensors("fixed_point", {{"matrix", matrix_in, "M22"}, {"offset", offset_in, "M2"}});
  const Tensor matrix = torch::stable::contiguous(matrix_in);  // (M, 2, 2)
  const Tensor offset = torch::stable::contiguous(offset_in);  // (M, 2)
  Tensor point = allocate_like(offset);                        // (M, 2)
  with_floating("fixed_point", "matrix", matrix, [&]<typename T>(T) {
    const T* a = data<T>(matrix);   // (M, 2, 2)
    const T* b = data<T>(offset);   // (M, 2)
    T* x = mutable_data<T>(point);  // (M, 2)
    for (int64_t map = 0; map < matrix.size(0); ++map) solve_fixed_point(a + 4 * map, b + 2 * map, x + 2 * map);
  });
  return point;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fractalops, CPU, library) { library.impl(FRACTALOPS_OP(fixed_point)); }

}  // namespace fractalops::cpu
