// What every op does with its tensors: check them, and read and write them as contiguous arrays.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <type_traits>

#include "memory.h"

namespace fractalops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <typename T>
constexpr ScalarType scalar_type_of = std::is_same_v<T, float>     ? ScalarType::Float
                                      : std::is_same_v<T, double>  ? ScalarType::Double
                                      : std::is_same_v<T, uint8_t> ? ScalarType::Byte
                                      : std::is_same_v<T, int16_t> ? ScalarType::Short
                                      : std::is_same_v<T, int32_t> ? ScalarType::Int
                                                                   : ScalarType::Long;

// The Python functions check what their users pass; these checks are for those who call torch.ops.fractalops directly.
template <typename T>
const T* data(const Tensor& contiguous) {
  STD_TORCH_CHECK(contiguous.scalar_type() == scalar_type_of<T>, "fractalops: tensors must have matching dtypes");
  return static_cast<const T*>(contiguous.const_data_ptr());
}

template <typename T>
T* mutable_data(Tensor& contiguous) {
  STD_TORCH_CHECK(contiguous.scalar_type() == scalar_type_of<T>, "fractalops: tensors must have matching dtypes");
  return static_cast<T*>(contiguous.mutable_data_ptr());
}

// A tensor, not cleared, of the device of another one, and of its dtype unless one is given.
inline Tensor allocate(const Tensor& like, torch::headeronly::IntHeaderOnlyArrayRef shape,
                       std::optional<ScalarType> type = std::nullopt) {
  try {
    return torch::stable::new_empty(like, shape, type);
  } catch (const std::runtime_error&) {
    const ScalarType scalar = type.value_or(like.scalar_type());
    double bytes = scalar == ScalarType::Byte                                 ? 1
                   : scalar == ScalarType::Short                              ? 2
                   : scalar == ScalarType::Float || scalar == ScalarType::Int ? 4
                                                                              : 8;
    for (const int64_t size : shape) {
      if (size < 0) throw;
      bytes *= static_cast<double>(size);
    }
    throw NoMemory(bytes);
  }
}

inline Tensor allocate_like(const Tensor& contiguous) { return allocate(contiguous, contiguous.sizes()); }

inline std::optional<Tensor> contiguous(const std::optional<Tensor>& tensor) {
  return tensor ? std::optional<Tensor>(torch::stable::contiguous(*tensor)) : std::nullopt;
}

inline void check_shape(const char* op, const char* name, const Tensor& tensor, std::initializer_list<int64_t> shape) {
  bool equal = tensor.dim() == static_cast<int64_t>(shape.size());
  int64_t dim = 0;
  for (const int64_t size : shape) equal = equal && tensor.size(dim++) == size;
  STD_TORCH_CHECK(equal, op, ": ", name, " has a shape that doesn't fit the other tensors");
}

// Calls run(float{}) or run(double{}), by the tensor's dtype; returns what it returns.
template <typename Run>
auto with_floating(const char* op, const char* name, const Tensor& tensor, const Run& run) {
  if (tensor.scalar_type() == ScalarType::Float) return run(float{});
  STD_TORCH_CHECK(tensor.scalar_type() == ScalarType::Double, op, ": ", name, " must be float32 or float64");
  return run(double{});
}

}  // namespace fractalops
