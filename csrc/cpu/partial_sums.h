// Sums of many points in float32. Added one after the other, their errors grow with the points: 50,000,000 ones are
// 16,777,216. So a pixel's sum is kept in two: what the canvas holds, of some thousand points at most, and a total in
// double, to which it is moved when it is full. The error then doesn't grow with the points.
//
// What is moved when: points are counted by cells, a cell being the row and the page of columns in which windows start.
// With the last of `most` points, the pixels that the cell's windows reach are moved. A band of an image holds all
// points of the rows that reach it, so a pixel's sum is split in the same way however the rows are split.
//
// No torch, so that the sanitizers can run it alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "../memory.h"
#include "raster.h"

namespace fractalops::cpu {

template <typename T>
class PartialSums {
 public:
  static constexpr int64_t few = 4096;  // points that are drawn without
  static constexpr int32_t most = 256;  // points of a cell between two moves
  static constexpr int page_bits = 5;   // of the columns of a page

  // Makes ready for one image of `length` points. Returns itself, or null where there is nothing to split.
  PartialSums* prepare(const Raster<T>& raster, int64_t length) {
    if (sizeof(T) > 4 || length <= few) return nullptr;
    pages_ = (raster.stride >> page_bits) + 1;
    moved_ = false;
    pixels_ = raster.channels * raster.band() * raster.width;
    if (pixels_ > room_) {
      total_ = scratch<double>(pixels_);
      room_ = pixels_;
    }
    left_.assign((raster.padded ? raster.canvas_rows : 2 * raster.height) * pages_, most);
    return this;
  }

  int64_t pages() const { return pages_; }
  // Of each cell, how many points are left to it.
  int32_t* left() { return left_.data(); }
  // What was moved to the total, (C, band, W); null before anything was.
  const double* moved() const { return moved_ ? total_.get() : nullptr; }
  // The total to move to, (C, band, W).
  double* total() {
    if (!moved_) std::fill_n(total_.get(), pixels_, 0.0);
    moved_ = true;
    return total_.get();
  }

 private:
  int64_t pages_ = 0, pixels_ = 0, room_ = 0;
  bool moved_ = false;
  std::unique_ptr<double[]> total_;  // (C, band, W), not written before something is moved
  std::vector<int32_t> left_;        // (cells)
};

// A row of the band's pixels, of all layers and what was moved from there.
template <typename T>
FRACTALOPS_INLINE void add_parts(const Raster<T>& raster, const T* canvas /* (W) in layer 0 */,
                                 const double* moved /* (W) or null */, T* row /* (W) */) {
  add_layers(raster, canvas, row);
  if (moved == nullptr) return;
  for (int64_t j = 0; j < raster.width; ++j) row[j] = static_cast<T>(moved[j] + static_cast<double>(row[j]));
}

// The band's rows of the image that was drawn on a canvas.
template <typename T>
void copy_from_canvas(const Raster<T>& raster, const T* canvas /* canvas() */,
                      const double* moved /* (C, band, W) or null */, T* image /* (C, H, W) */) {
  for (int64_t c = 0; c < raster.channels; ++c)
    for (int64_t i = 0; i < raster.band(); ++i)
      add_parts(raster, canvas + c * raster.plane() + raster.origin() + i * raster.stride,
                moved ? moved + (c * raster.band() + i) * raster.width : nullptr,
                image + (c * raster.height + raster.band_begin + i) * raster.width);
}

}  // namespace fractalops::cpu
