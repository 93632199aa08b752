// What affine_chain does with its tensors, on the CPU and on GPUs: check that they fit together, and choose by type.
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

// Calls run(T{}, D) with the type and the dimensions of the matrix, D as a std::integral_constant.
template <typename Run>
void with_matrix(const Tensor& matrix, const Run& run) {
  with_floating("affine_chain", "matrix", matrix, [&](auto scalar) {
    if (matrix.size(1) == 2) return run(scalar, std::integral_constant<int, 2>{});
    STD_TORCH_CHECK(matrix.size(1) == 3, "affine_chain: matrix must have 2 or 3 dimensions, got ", matrix.size(1));
    run(scalar, std::integral_constant<int, 3>{});
  });
}

}  // namespace fractalops
