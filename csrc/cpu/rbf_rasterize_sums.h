// Moves pixels from the canvas to the total if the sums of a drawing are split (partial_sums.h).
//
// This file is included by rbf_rasterize_kernel.h, once per instruction set.

namespace fractalops::cpu::FRACTALOPS_ISA {

// Moves a rectangle of the band's pixels, cut to the band, from the canvas to the total.
template <typename T>
FRACTALOPS_INLINE void move_pixels(const Raster<T>& raster, int64_t first_row, int64_t last_row, int64_t first_column,
                                   int64_t last_column, T* canvas /* canvas() */, PartialSums<T>& sums) {
  const int64_t top = std::max<int64_t>(first_row, 0), bottom = std::min(last_row, raster.band());
  const int64_t left = std::max<int64_t>(first_column, 0), right = std::min(last_column, raster.width);
  double* const totals = sums.total();  // (C, band, W)
  for (int64_t c = 0; c < raster.channels; ++c)
    for (int64_t i = top; i < bottom; ++i) {
      double* __restrict total = totals + (c * raster.band() + i) * raster.width;  // (W)
      for (int64_t n = 0; n < raster.layers; ++n) {
        T* __restrict row = canvas + c * raster.plane() + raster.origin() + i * raster.stride + raster.in_layer(n);
        for (int64_t j = left; j < right; ++j) {
          total[j] += static_cast<double>(row[j]);
          row[j] = T(0);
        }
      }
    }
}

}  // namespace fractalops::cpu::FRACTALOPS_ISA
