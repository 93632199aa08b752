// Argument checks and type dispatch of affine_chain, for the CPU and for GPUs.
#pragma once

#include "tensors.h"

namespace fractalops {

inline void check_forward(const Tensor& matrix, const Tensor& offset, const Tensor& index, const Tensor& start) {
  check_tensors("affine_chain", {{"matrix", matrix, "NDD"},
                                 {"offset", offset, "ND"},
                                 {"index", index, "BT", map_numbers},
                                 {"start", start, "BD"}});
}

inline void check_backward(const Tensor& grad, const Tensor& matrix, const Tensor& index, const Tensor& start,
                           const Tensor& points) {
  check_tensors("affine_chain", {{"matrix", matrix, "NDD"},
                                 {"index", index, "BT", map_numbers},
                                 {"start", start, "BD"},
                                 {"points", points, "BTD"},
                                 {"grad", grad, "BTD"}});
}

// Calls run(T{}, D) with the dtype and the number of dimensions of the matrix. D is a std::integral_constant.
template <typename Run>
void with_matrix(const Tensor& matrix, const Run& run) {
  with_floating("affine_chain", "matrix", matrix, [&](auto scalar) {
    if (matrix.size(1) == 2) return run(scalar, std::integral_constant<int, 2>{});
    STD_TORCH_CHECK(matrix.size(1) == 3, "affine_chain: matrix must have 2 or 3 dimensions, got ", matrix.size(1));
    run(scalar, std::integral_constant<int, 3>{});
  });
}

}  // namespace fractalops
