// What the ops that draw indices do with their tensors, on the CPU and on GPUs: check that they fit together, and
// choose by type: numbers of float or double, indices of a byte or four.
#pragma once

#include "tensors.h"

namespace fractalops {

inline void check_drawing(const char* op, const Tensor& weight, const Tensor& uniform, std::string_view shape) {
  check_tensors(op, {{"weight", weight, "SN", only<double>("float64")}, {"uniform", uniform, shape}});
  STD_TORCH_CHECK(weight.size(1) > 0, op, ": weight must hold maps");
}

// The indices of weight (S, N) and uniform (S, ...), both contiguous: draw(T{}, Index{}, index) fills them, T being the
// type of the numbers.
template <typename Draw>
Tensor draw_by_type(const char* op, const Tensor& weight, const Tensor& uniform, const Draw& draw) {
  const bool small = weight.size(1) <= 256;
  Tensor index = allocate(uniform, uniform.sizes(), small ? ScalarType::Byte : ScalarType::Int);
  with_floating(op, "uniform", uniform,
                [&](auto number) { small ? draw(number, uint8_t{}, index) : draw(number, int32_t{}, index); });
  return index;
}

}  // namespace fractalops
