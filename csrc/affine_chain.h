// What affine_chain does with its tensors, on the CPU and on GPUs: check that they fit together, and choose by type.
#pragma once

#include "tensors.h"

namespace fractalops {

inline void check_chain(const Tensor& matrix, const Tensor& index, const Tensor& start) {
  const int64_t count = matrix.size(0), dimensions = matrix.size(1);
  check_shape("affine_chain", "matrix", matrix, {count, dimensions, dimensions});
  check_shape("affine_chain", "index", index, {start.size(0), index.size(1)});
  check_shape("affine_chain", "start", start, {start.size(0), dimensions});
  const ScalarType type = index.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Byte || type == ScalarType::Int || type == ScalarType::Long,
                  "affine_chain: index must be uint8, int32 or int64");
}

inline void check_forward(const Tensor& matrix, const Tensor& offset, const Tensor& index, const Tensor& start) {
  check_chain(matrix, index, start);
  check_shape("affine_chain", "offset", offset, {matrix.size(0), matrix.size(1)});
}

inline void check_backward(const Tensor& grad, const Tensor& matrix, const Tensor& index, const Tensor& start,
                           const Tensor& points) {
  check_chain(matrix, index, start);
  check_shape("affine_chain", "grad", grad, {index.size(0), index.size(1), matrix.size(1)});
  check_shape("affine_chain", "points", points, {index.size(0), index.size(1), matrix.size(1)});
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
