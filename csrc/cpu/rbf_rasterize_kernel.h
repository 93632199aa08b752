// The RBF rasterizer on the CPU, windowed and separable (paper, equation 8):
//   I[c, i, j] = sum_t w[t, c] X[t, i] Y[t, j],  X[t, i] = exp(-(x_t - i)^2 / tau),  Y[t, j] = exp(-(y_t - j)^2 / tau),
// over the pixels with |i - round(x_t)| <= r and |j - round(y_t)| <= r.
//
// Ownership. Forward: a task owns a band of rows of one image. It adds the points that reach the band in their order,
// so that a pixel's sum is the same for every split of the rows. Backward: a task owns a run of points of one image. It
// reads the gradient image and writes the gradients of its own points. Neither allocates memory.
//
// This file is included once per instruction set, so it has no include guard. It does not include torch, so that the
// sanitizer tests can compile it separately.
#include "vectors.h"
#include "rbf_rasterize_sums.h"
#include "rbf_rasterize_masked.h"
#include "rbf_rasterize_padded.h"

namespace fractalops::cpu::FRACTALOPS_ISA {

inline constexpr int default_vectors = FRACTALOPS_VECTOR_BYTES == 64 ? 1 : 2;

template <typename T>
FRACTALOPS_INLINE bool has_default_window(const Raster<T>& raster) {
  return sizeof(T) == 4 && raster.padded && raster.rows == 2 * default_radius + 1 &&
         raster.vectors == default_vectors && raster.degree == default_degree;
}

// Adds the points of one image to a canvas, which the caller must have cleared. Without a weight there is one channel,
// and all weights are 1. If `kept` is given, it receives the data that the backward of the same points would compute
// again. It must be null if sums are split.
template <typename T>
void rbf_rasterize_forward(const Raster<T>& raster, const T* points /* (T, 2) */, const T* weight /* (T, C) or null */,
                           int64_t length, T* canvas /* canvas() */, T* scratch /* scratch() */,
                           T* kept /* kept(T) or null */, PartialSums<T>* sums /* or null */) {
  if constexpr (sizeof(T) == 4)
    if (has_default_window(raster))
      return draw_padded<T, default_vectors, true>(raster, points, weight, length, canvas, scratch, kept, sums);
  with_constant<pass_vectors>(raster.pass, [&]<int Count>(std::integral_constant<int, Count>) {
    raster.padded ? draw_padded<T, Count, false>(raster, points, weight, length, canvas, scratch, kept, sums)
                  : draw_masked<T, Count>(raster, points, weight, length, canvas, scratch, sums);
    return true;
  });
}

template <typename T, bool NeedsBandwidth>
FRACTALOPS_INLINE double differentiate(const Raster<T>& raster, const T* points /* (T, 2) */,
                                       const T* weight /* (T, C) or null */, const T* grad /* gradient() */,
                                       int64_t begin, int64_t end, T* grad_points /* (T, 2) */,
                                       T* grad_weight /* (T, C) or null */, T* scratch /* scratch() */,
                                       T* kept /* kept(end - begin) or null */) {
  if constexpr (sizeof(T) == 4 && !NeedsBandwidth)
    if (has_default_window(raster))
      return differentiate_padded<T, default_vectors, true, false>(raster, points, weight, grad, begin, end,
                                                                   grad_points, grad_weight, scratch, kept);
  double sum_of_squares = 0;
  with_constant<pass_vectors>(raster.pass, [&]<int Count>(std::integral_constant<int, Count>) {
    sum_of_squares = raster.padded
                         ? differentiate_padded<T, Count, false, NeedsBandwidth>(
                               raster, points, weight, grad, begin, end, grad_points, grad_weight, scratch, kept)
                         : differentiate_masked<T, Count, NeedsBandwidth>(raster, points, weight, grad, begin, end,
                                                                          grad_points, grad_weight, scratch);
    return true;
  });
  return sum_of_squares;
}

// Differentiates the points [begin, end) of one image. Returns their part of the bandwidth's gradient, or 0 if it is
// not needed.
// With d = x - i: dx = -2 / tau sum w d X Y g, dy alike, dw = sum X Y g, dtau = 1 / tau^2 sum w (d_x^2 + d_y^2) X Y g.
// grad_weight can be requested without a weight. `kept` is the data that the forward of these points kept.
template <typename T>
double rbf_rasterize_backward(const Raster<T>& raster, const T* points /* (T, 2) */,
                              const T* weight /* (T, C) or null */, const T* grad /* gradient() */, int64_t begin,
                              int64_t end, bool needs_bandwidth, T* grad_points /* (T, 2) */,
                              T* grad_weight /* (T, C) or null */, T* scratch /* scratch() */,
                              T* kept /* kept(end - begin) or null */) {
  if (!needs_bandwidth) {
    differentiate<T, false>(raster, points, weight, grad, begin, end, grad_points, grad_weight, scratch, kept);
    return 0;
  }
  const double inverse = static_cast<double>(raster.inverse_bandwidth);
  return inverse * inverse *
         differentiate<T, true>(raster, points, weight, grad, begin, end, grad_points, grad_weight, scratch, kept);
}

}  // namespace fractalops::cpu::FRACTALOPS_ISA
