// What the ops that draw indices do with their types: numbers of float or double, indices of a byte or four.
#pragma once

#include "../tensors.h"

namespace fractalops::cpu {

// The indices (shape) of weight (S, N) and uniform (shape), both contiguous: draw.template operator()<T, Index>(index)
// fills them, T being the type of the numbers.
template <typename Draw>
Tensor draw_by_type(const char* op, const Tensor& weight, const Tensor& uniform, std::initializer_list<int64_t> shape,
                    const Draw& draw) {
  check_shape(op, "uniform", uniform, shape);
  check_shape(op, "weight", weight, {uniform.size(0), weight.size(1)});
  STD_TORCH_CHECK(weight.size(1) > 0, op, ": weight must have maps");
  const bool small = weight.size(1) <= 256;
  Tensor index = torch::stable::new_empty(uniform, shape, small ? ScalarType::Byte : ScalarType::Int);
  const auto fill = [&]<typename T>() {
    small ? draw.template operator()<T, uint8_t>(index) : draw.template operator()<T, int32_t>(index);
  };
  if (uniform.scalar_type() == ScalarType::Float) {
    fill.template operator()<float>();
  } else {
    STD_TORCH_CHECK(uniform.scalar_type() == ScalarType::Double, op, ": uniform must be float32 or float64");
    fill.template operator()<double>();
  }
  return index;
}

}  // namespace fractalops::cpu
