// What does not change from point to point while points are counted on pixels. No torch in here, so that the sanitizers
// can run the kernel alone.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "../division.h"

namespace fractalops::cpu {

// The image is written in blocks of this many columns.
inline constexpr int64_t block_columns = 32;
// The counter of a point that is on no pixel.
template <typename Counter>
inline constexpr Counter outside = std::numeric_limits<Counter>::max();
// Points whose counters are found before any of them is incremented: finding vectorizes, incrementing does not. Few, so
// that the processor finds the next run's while it waits for the memory of this one's.
inline constexpr int64_t found_points = 64;

// The pixels of one image, with a margin of half a patch on each side: a point there still stamps the image.
struct PixelGrid {
  static constexpr int64_t largest_patch = 15;

  int64_t height, width;
  int64_t patch_height, patch_width;  // odd
  int64_t top, left;                  // the margin
  int64_t rows, columns;              // of the image and its margins
  int64_t stride;                     // counters of a row of the canvas: whole blocks, wherever a patch shifts them

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

  // Whether the counts of the points are the image, unless the patch's only pixel is left out.
  bool is_image() const { return patch_height * patch_width == 1; }
  int64_t canvas() const { return rows * stride; }

  // How far behind a pixel of the image, which starts at canvas[0], the counters lie whose points stamp it.
  std::vector<int64_t> taps(const uint8_t* patch /* (patch_height, patch_width), 0 is no stamp */) const {
    std::vector<int64_t> taps;
    for (int64_t row = patch_height - 1; row >= 0; --row)
      for (int64_t column = patch_width - 1; column >= 0; --column)
        if (patch[row * patch_width + column])
          taps.push_back((patch_height - 1 - row) * stride + patch_width - 1 - column);
    return taps;
  }
};

// A coordinate's pixel, half to even, without a conversion: in [rounder, 2 * rounder) consecutive numbers are one apart
// and so are their bits. All else keeps its order, NaN and infinities at the ends, and so falls outside by one unsigned
// comparison. The 8 leaves room for the pixels of the margin, which are negative.
template <typename T>
struct Rounding {
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  static constexpr T rounder = static_cast<T>(sizeof(T) == 4 ? 1 << 23 : int64_t{1} << 52) + T(8);
  static_assert(PixelGrid::largest_patch / 2 < 8);
};

}  // namespace fractalops::cpu
