// fixed_point on the CPU: one loop over maps. Shapes are checked in fractalops/ops/fixed_point.py.
#include <cmath>

#include "../tensors.h"

namespace fractalops::cpu {
namespace {

// The solution of x = A x + b by Cramer's rule; the offset, with zeros for what isn't finite there, where none is
// finite.
template <typename T>
void solve(const Tensor& matrix, const Tensor& offset, Tensor& point) {
  const T* a = data<T>(matrix);
  const T* b = data<T>(offset);
  T* x = mutable_data<T>(point);
  for (int64_t map = 0; map < matrix.size(0); ++map, a += 4, b += 2, x += 2) {
    const T determinant = (1 - a[0]) * (1 - a[3]) - a[1] * a[2];
    x[0] = ((1 - a[3]) * b[0] + a[1] * b[1]) / determinant;
    x[1] = ((1 - a[0]) * b[1] + a[2] * b[0]) / determinant;
    if (std::isfinite(x[0]) && std::isfinite(x[1])) continue;
    for (int i = 0; i < 2; ++i) x[i] = std::isfinite(b[i]) ? b[i] : T(0);
  }
}

Tensor fixed_point(const Tensor& matrix_in, const Tensor& offset_in) {
  const Tensor matrix = torch::stable::contiguous(matrix_in);  // (M, 2, 2)
  const Tensor offset = torch::stable::contiguous(offset_in);  // (M, 2)
  check_shape("fixed_point", "matrix", matrix, {offset.size(0), 2, 2});
  check_shape("fixed_point", "offset", offset, {offset.size(0), 2});
  Tensor point = torch::stable::empty_like(offset);  // (M, 2)
  with_floating("fixed_point", "matrix", matrix, [&]<typename T>(T) { solve<T>(matrix, offset, point); });
  return point;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fractalops, CPU, library) { library.impl("fixed_point", TORCH_BOX(&fixed_point)); }

}  // namespace fractalops::cpu
