// Argument checks and type dispatch of the ops that draw indices, for the CPU and for GPUs. Numbers are float or
// double. Indices are uint8 for up to 256 maps, else int32.
#pragma once

#include "tensors.h"

namespace fractalops {

inline void check_drawing(const char* op, const Tensor& weight, const Tensor& uniform, std::string_view shape) {
  check_tensors(op, {{"weight", weight, "SN", only<double>("float64")}, {"uniform", uniform, shape}});
  STD_TORCH_CHECK(weight.size(1) > 0, op, ": weight must have at least one map");
}

// Returns the indices for weight (S, N) and uniform (S, ...), which must be contiguous. They have the shape of uniform.
// draw(T{}, Index{}, index) fills them in; T is the type of the numbers.
template <typename Draw>
Tensor draw_by_type(const char* op, const Tensor& weight, const Tensor& uniform, const Draw& draw) {
  const bool small = weight.size(1) <= 256;
  Tensor index = allocate(uniform, uniform.sizes(), small ? ScalarType::Byte : ScalarType::Int);
  with_floating(op, "uniform", uniform,
                [&](auto number) { small ? draw(number, uint8_t{}, index) : draw(number, int32_t{}, index); });
  return index;
}

}  // namespace fractalops
