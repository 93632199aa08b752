// Data that are the same for all points when points are counted on pixels. This file does not include torch, so that
// the sanitizer tests can compile the kernel separately.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "../division.h"

namespace fractalops::cpu {

// The number of columns in a block. The image is written in blocks.
inline constexpr int64_t block_columns = 32;
// The position of the counter for a point that is on no pixel.
template <typename Counter>
inline constexpr Counter outside = std::numeric_limits<Counter>::max();
// The number of points whose counters are found before any of these is incremented. Finding vectorizes, incrementing
// does not. The number is small, so that the processor can find the counters of the next points while it waits for the
// memory of these counters.
inline constexpr int64_t found_points = 64;

// The pixels of one image, with a margin of half a patch on each side, because a point in the margin also marks pixels
// of the image.
struct PixelGrid {
  static constexpr int64_t largest_patch = 15;

  int64_t height, width;
  int64_t patch_height, patch_width;  // odd
  int64_t top, left;                  // the margins
  int64_t rows, columns;              // of the image with its margins
  int64_t stride;                     // counters per row of the canvas: whole blocks for every shift by a patch

  PixelGrid(int64_t height, int64_t width, int64_t patch_height, int64_t patch_width)
      : height(height),
        width(width),
        patch_height(patch_height),
        patch_width(patch_width),
        top(patch_height / 2),
        left(patch_width / 2),
        rows(height + 2 * top),
        columns(width + 2 * left),
        stride(is_image() ? width : round_up(width, block_columns) + 2 * left) {}

  // Whether the patch has only one pixel. If this pixel is set, the counts of the points are the image.
  bool is_image() const { return patch_height * patch_width == 1; }
  int64_t canvas() const { return rows * stride; }

  // Returns the distances from canvas[row * stride + column] to the counters of the points that mark pixel (row,
  // column) of the image.
  std::vector<int64_t> taps(const uint8_t* patch /* (patch_height, patch_width), 0 is not marked */) const {
    std::vector<int64_t> taps;
    for (int64_t row = patch_height - 1; row >= 0; --row)
      for (int64_t column = patch_width - 1; column >= 0; --column)
        if (patch[row * patch_width + column])
          taps.push_back((patch_height - 1 - row) * stride + patch_width - 1 - column);
    return taps;
  }
};

// Finds a coordinate's pixel, rounded half to even, without a conversion. Consecutive integers in [rounder, 2 *
// rounder) are one apart, and so are their bits. All other values keep their order, with NaN and infinities at the
// ends. So one unsigned comparison finds all values outside. The 8 leaves room for the pixels of the margin, which are
// negative.
template <typename T>
struct Rounding {
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  static constexpr T rounder = static_cast<T>(sizeof(T) == 4 ? 1 << 23 : int64_t{1} << 52) + T(8);
  static_assert(PixelGrid::largest_patch / 2 < 8);
};

}  // namespace fractalops::cpu
