// Helpers of all ops for tensors: argument checks, allocation, and access to contiguous data.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
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

// Allocates an uninitialized tensor on the device of `like`, with the dtype of `like` unless `type` is given.
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

// The dtypes that an argument may have.
struct Dtypes {
  const char* names;
  std::array<ScalarType, 3> types;
  bool alike = false;  // whether all such arguments of an op must have the same dtype

  bool hold(ScalarType type) const { return std::find(types.begin(), types.end(), type) != types.end(); }
};

template <typename T>
constexpr Dtypes only(const char* name) {
  return {name, {scalar_type_of<T>, scalar_type_of<T>, scalar_type_of<T>}};
}

inline constexpr Dtypes floating{
    "float32 or float64", {ScalarType::Float, ScalarType::Double, ScalarType::Double}, true};
inline constexpr Dtypes map_numbers{"uint8, int32 or int64", {ScalarType::Byte, ScalarType::Int, ScalarType::Long}};

// The requirements on a tensor argument. A letter of `shape` is a size that is the same in all arguments, and a digit
// is that size: "ND2" is (N, D, 2).
struct Argument {
  Argument(const char* name, const Tensor& tensor, std::string_view shape, const Dtypes& dtypes = floating)
      : name(name), tensor(&tensor), shape(shape), dtypes(dtypes) {}
  Argument(const char* name, const std::optional<Tensor>& tensor, std::string_view shape,
           const Dtypes& dtypes = floating)
      : name(name), tensor(tensor ? &*tensor : nullptr), shape(shape), dtypes(dtypes) {}

  const char* name;
  const Tensor* tensor;  // null if an optional tensor is not given
  std::string_view shape;
  Dtypes dtypes;
};

// Returns the shape as text, with the values of the letters that are known: "(3, T)".
inline std::string describe(std::string_view shape, const int64_t* sizes /* indexed by letter - '0' */) {
  std::string text;
  for (const char letter : shape) {
    const int64_t size = sizes[letter - '0'];
    text += (text.empty() ? "" : ", ") + (size < 0 ? std::string(1, letter) : std::to_string(size));
  }
  return "(" + text + ")";
}

inline std::string describe(const Tensor& tensor) {
  std::string text;
  for (int64_t dim = 0; dim < tensor.dim(); ++dim) text += (dim == 0 ? "" : ", ") + std::to_string(tensor.size(dim));
  return "(" + text + ")";
}

// Raises an error unless the tensors satisfy their requirements and are on one device. The Python functions check their
// users' arguments. This function checks direct calls of torch.ops.fractalops. It must be called before any size is
// read.
inline void check_tensors(const char* op, std::initializer_list<Argument> arguments) {
  std::array<int64_t, 'Z' - '0' + 1> sizes;  // indexed by letter - '0'; -1 if not known yet
  sizes.fill(-1);
  for (int64_t digit = 0; digit < 10; ++digit) sizes[digit] = digit;
  const Argument *first = nullptr, *alike = nullptr;
  for (const Argument& argument : arguments) {
    if (argument.tensor == nullptr) continue;
    const Tensor& tensor = *argument.tensor;
    if (first == nullptr) first = &argument;
    STD_TORCH_CHECK(tensor.get_device_index() == first->tensor->get_device_index(), op, ": ", argument.name,
                    " must be on the device of ", first->name);
    STD_TORCH_CHECK(argument.dtypes.hold(tensor.scalar_type()), op, ": ", argument.name, " must be ",
                    argument.dtypes.names);
    if (argument.dtypes.alike) {
      if (alike == nullptr) alike = &argument;
      STD_TORCH_CHECK(tensor.scalar_type() == alike->tensor->scalar_type(), op, ": ", argument.name,
                      " must have the dtype of ", alike->name);
    }
    const auto known = sizes;
    bool fits = tensor.dim() == static_cast<int64_t>(argument.shape.size());
    for (size_t dim = 0; fits && dim < argument.shape.size(); ++dim) {
      int64_t& size = sizes[argument.shape[dim] - '0'];
      const int64_t own = tensor.size(static_cast<int64_t>(dim));
      if (size < 0) size = own;
      fits = size == own;
    }
    STD_TORCH_CHECK(fits, op, ": ", argument.name, " must have shape ", describe(argument.shape, known.data()),
                    ", got ", describe(tensor));
  }
}

// Calls run(float{}) or run(double{}), depending on the tensor's dtype, and returns its result.
template <typename Run>
auto with_floating(const char* op, const char* name, const Tensor& tensor, const Run& run) {
  if (tensor.scalar_type() == ScalarType::Float) return run(float{});
  STD_TORCH_CHECK(tensor.scalar_type() == ScalarType::Double, op, ": ", name, " must be float32 or float64");
  return run(double{});
}

}  // namespace fractalops
