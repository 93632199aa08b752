// Sums of many points in float32. If all terms are added one by one, the error grows with the number of points:
// 50,000,000 ones add up to 16,777,216. So a pixel's sum has two parts. The canvas holds the sum of some thousand
// points at most. A total in double receives this sum when the canvas is full. The error then does not grow with the
// number of points.
//
// Points are counted by cell. A cell is the row and the page of columns in which a window starts. With every `most`-th
// point of a cell, the pixels that the cell's windows reach are moved to the total. A band of an image has all points
// of the rows that reach it. So a pixel's sum is split in the same way for every split of the rows.
//
// This file does not include torch, so that the sanitizer tests can compile it separately.
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
  static constexpr int64_t few = 4096;  // sums of at most this many points are not split
  static constexpr int32_t most = 256;  // points of a cell between two moves
  static constexpr int page_bits = 5;   // log2 of the columns of a page

  // Prepares for one image of `length` points. Returns this object, or null if the sums need not be split.
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
  // The number of points that each cell may still take before the next move, (cells).
  int32_t* left() { return left_.data(); }
  // The sums that were moved to the total, (C, band, W); null before the first move.
  const double* moved() const { return moved_ ? total_.get() : nullptr; }
  // The total to which sums are moved, (C, band, W).
  double* total() {
    if (!moved_) std::fill_n(total_.get(), pixels_, 0.0);
    moved_ = true;
    return total_.get();
  }

 private:
  int64_t pages_ = 0, pixels_ = 0, room_ = 0;
  bool moved_ = false;
  std::unique_ptr<double[]> total_;  // (C, band, W), uninitialized before the first move
  std::vector<int32_t> left_;        // (cells)
};

// Writes a row of the band's pixels: the sum of all layers and of what was moved from them.
template <typename T>
FRACTALOPS_INLINE void add_parts(const Raster<T>& raster, const T* canvas /* (W) in layer 0 */,
                                 const double* moved /* (W) or null */, T* row /* (W) */) {
  add_layers(raster, canvas, row);
  if (moved == nullptr) return;
  for (int64_t j = 0; j < raster.width; ++j) row[j] = static_cast<T>(moved[j] + static_cast<double>(row[j]));
}

// Copies the band's rows from a canvas to the image.
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
