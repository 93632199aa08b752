// clamped_squared_error on the CPU: the forward and the backward each take one pass over the pixels. Shapes are checked
// in fractalops/ops/clamped_squared_error.py and, for direct calls of the op, here.
#include "clamped_squared_error.h"

#include <vector>

#include "../tensors.h"
#include "split_tasks.h"

namespace fractalops::cpu {
namespace {

constexpr double pixel_time = 0.5;  // nanoseconds

template <typename T>
void forward(const Tensor& images, const Tensor& targets, Tensor& errors) {
  const int64_t systems = images.size(0), sequences = images.size(1), pixels = targets.size(1);
  const T* pixel = data<T>(images);               // (S, K, P)
  const T* target = data<T>(targets);             // (S, P)
  std::vector<double> sums(systems * sequences);  // (S, K)
  split_tasks(systems * sequences, pixel_time * static_cast<double>(pixels), [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      SquaredErrors<T> own;
      own.add(pixel + task * pixels, target + task / sequences * pixels, pixels, PixelRange<T>(true));
      sums[task] = own.total();
    }
  });
  T* out = mutable_data<T>(errors);  // (S)
  for (int64_t s = 0; s < systems; ++s) {
    double total = 0;
    for (int64_t k = 0; k < sequences; ++k) total += sums[s * sequences + k];
    out[s] = static_cast<T>(total / (sequences * pixels));
  }
}

template <typename T>
void backward(const Tensor& grad, const Tensor& images, const Tensor& targets, Tensor& grad_images) {
  const int64_t systems = images.size(0), sequences = images.size(1), pixels = targets.size(1);
  const T* upstream = data<T>(grad);      // (S)
  const T* pixel = data<T>(images);       // (S, K, P)
  const T* target = data<T>(targets);     // (S, P)
  T* out = mutable_data<T>(grad_images);  // (S, K, P)
  split_tasks(systems * sequences, pixel_time * static_cast<double>(pixels), [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task)
      clamped_squares_adjoint(pixel + task * pixels, target + task / sequences * pixels, pixels,
                              upstream[task / sequences] * T(2) / (sequences * pixels), PixelRange<T>(true),
                              out + task * pixels);
  });
}

Tensor clamped_squared_error_fwd(const Tensor& images_in, const Tensor& targets_in) {
  check_tensors("clamped_squared_error", {{"images", images_in, "SKP"}, {"targets", targets_in, "SP"}});
  const Tensor images = torch::stable::contiguous(images_in);    // (S, K, P)
  const Tensor targets = torch::stable::contiguous(targets_in);  // (S, P)
  Tensor errors = allocate(images, {images.size(0)});            // (S)
  with_floating("clamped_squared_error", "images", images, [&]<typename T>(T) { forward<T>(images, targets, errors); });
  return errors;
}

Tensor clamped_squared_error_bwd(const Tensor& grad_in, const Tensor& images_in, const Tensor& targets_in) {
  check_tensors("clamped_squared_error",
                {{"images", images_in, "SKP"}, {"targets", targets_in, "SP"}, {"grad", grad_in, "S"}});
  const Tensor grad = torch::stable::contiguous(grad_in);        // (S)
  const Tensor images = torch::stable::contiguous(images_in);    // (S, K, P)
  const Tensor targets = torch::stable::contiguous(targets_in);  // (S, P)
  Tensor grad_images = allocate_like(images);                    // (S, K, P)
  with_floating("clamped_squared_error", "images", images,
                [&]<typename T>(T) { backward<T>(grad, images, targets, grad_images); });
  return grad_images;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fractalops, CPU, library) {
  library.impl(FRACTALOPS_OP(clamped_squared_error_fwd));
  library.impl(FRACTALOPS_OP(clamped_squared_error_bwd));
}

}  // namespace fractalops::cpu
