// What does not change from point to point while an image is drawn.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "../division.h"

namespace fractalops::cpu {

inline constexpr int vector_bytes = 32;
// Windows wider than this many vectors are walked in several passes, so that the sums of a pass stay in registers.
inline constexpr int pass_vectors = 4;
// Points are collected in runs of this many before they are drawn.
inline constexpr int run_points = 256;

// A band of rows of one image, and the window of a point in it: `rows` x `vectors` that always lie inside the padded
// band, wherever the point is; the tables are 0 at its pixels outside the true window.
template <typename T>
struct Raster {
  static constexpr int64_t lanes = vector_bytes / sizeof(T);

  int64_t height, width, channels;
  int64_t band_begin, band_end;  // rows of the image
  T radius;                      // pixels; whole, or infinite without truncation
  T inverse_bandwidth;
  int64_t rows;                                // rows of a window
  int64_t vectors;                             // column vectors of a window
  int64_t stride;                              // elements of a padded row
  T lowest_x, highest_x, lowest_y, highest_y;  // points beyond touch nothing

  Raster(int64_t height, int64_t width, int64_t channels, T bandwidth, double cutoff, int64_t band_begin,
         int64_t band_end)
      : height(height),
        width(width),
        channels(channels),
        band_begin(band_begin),
        band_end(band_end),
        inverse_bandwidth(T(1) / bandwidth) {
    // log(0) makes it infinite: no truncation.
    radius = static_cast<T>(std::ceil(std::sqrt(-static_cast<double>(bandwidth) * std::log(cutoff))));
    const double diameter = 2.0 * static_cast<double>(radius) + 1.0;
    const int64_t width_vectors = divide_up(width, lanes);
    rows = static_cast<int64_t>(std::min(diameter, static_cast<double>(band_end - band_begin)));
    // Starting anywhere in its first vector, a window reaches lanes - 1 columns further than its own length.
    vectors =
        static_cast<int64_t>(std::min(std::ceil((diameter + lanes - 1) / lanes), static_cast<double>(width_vectors)));
    if (vectors > pass_vectors) vectors = round_up(vectors, pass_vectors);
    stride = std::max(width_vectors, vectors) * lanes;
    // Half a pixel for the rounding; finite, so that infinite points stay out.
    const T reach = radius + T(0.5), largest = std::numeric_limits<T>::max();
    lowest_x = std::max(static_cast<T>(band_begin) - reach, -largest);
    highest_x = std::min(static_cast<T>(band_end - 1) + reach, largest);
    lowest_y = std::max(-reach, -largest);
    highest_y = std::min(static_cast<T>(width - 1) + reach, largest);
  }

  int64_t band() const { return band_end - band_begin; }
  // Elements of scratch memory: the padded canvas, and tables for the rows of `lanes` points (value, first and second
  // moment).
  int64_t canvas() const { return channels * band() * stride; }
  int64_t tables() const { return 3 * rows * lanes; }
};

}  // namespace fractalops::cpu
