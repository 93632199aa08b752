// Data that are the same for all points of an image: the window of a point, the canvas, and the tables that depend on
// the bandwidth.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "../division.h"
#include "gaussian_polynomials.h"
#include "instruction_set.h"
#include "with_constant.h"

namespace fractalops::cpu {

// The maximum number of vectors in a pass. Wider windows take several passes, so that the sums of a pass stay in
// registers.
inline constexpr int pass_vectors = 4;
// The number of points that are collected before they are drawn, on a canvas without padding.
inline constexpr int run_points = 256;
// The window of the default bandwidth 1 and cutoff 1e-6. Its size is known at compile time.
inline constexpr int default_radius = 4, default_degree = 8;

// Returns the radius of a window, in whole pixels; infinite for a cutoff of 0. Pixels outside the window are at least
// radius + 1/2 away.
template <typename T>
T window_radius(T bandwidth, double cutoff) {
  const double reach = std::sqrt(-static_cast<double>(bandwidth) * std::log(cutoff));
  return static_cast<T>(std::max(std::ceil(reach - 0.5), 0.0));
}

// A band of rows of one image, its canvas, and the window of a point: `rows` x `vectors` vectors of columns.
//
// A canvas has C planes of `canvas_rows` x `stride`. Pixel (band_begin, 0) is at `origin()`. A padded canvas is larger
// by a window's width on each side, so that no window needs to be cut. The padding of a gradient is zero. If padding
// would take much memory or work, the canvas is not padded, and rbf_rasterize_masked.h cuts the windows.
//
// A window's vectors start at multiples of `step` columns. If `step` is less than a vector, the canvas has one layer
// for each offset that a start can have within a vector. Two vectors of a layer that touch the same memory are then
// identical, so a load finds in the store buffer what was stored before. A pixel is the sum of its `layers`. A gradient
// has one layer.
template <typename T>
struct Raster {
  // Memory that is aligned to cache lines.
  struct alignas(64) Line {
    T values[64 / sizeof(T)];
  };

  int64_t height, width, channels;
  int64_t band_begin, band_end;  // rows of the image
  T bandwidth, inverse_bandwidth;
  T radius;  // pixels; a whole number, or infinite without truncation
  int64_t lanes;
  bool padded;
  int64_t step, layers;
  int64_t rows;       // rows of a window
  int64_t vectors;    // column vectors of a window
  int64_t pass;       // column vectors of one pass
  int64_t top, left;  // padding
  int64_t canvas_rows, stride;
  // Without padding, points outside these limits touch no pixel.
  T lowest_x = 0, highest_x = 0, lowest_y = 0, highest_y = 0;
  int degree;                            // of the polynomials; 0 if exponentials are used
  std::vector<T> row_coefficients;       // (radius + 1, degree + 1)
  std::vector<Line> column_lines;        // (step, degree + 1, vectors, lanes)
  std::vector<Line> displacement_lines;  // (step, vectors, lanes)

  // `masked` requests a canvas without padding. `bytes` is the size of a vector in the kernel that runs.
  Raster(int64_t height, int64_t width, int64_t channels, T bandwidth, double cutoff, int64_t band_begin,
         int64_t band_end, bool masked = false, int64_t bytes = vector_bytes())
      : height(height),
        width(width),
        channels(channels),
        band_begin(band_begin),
        band_end(band_end),
        bandwidth(bandwidth),
        inverse_bandwidth(T(1) / bandwidth),
        radius(window_radius(bandwidth, cutoff)),
        lanes(bytes / static_cast<int64_t>(sizeof(T))),
        padded(!masked && fits_padding()) {
    if (padded)
      pad();
    else
      mask();
  }

  int64_t band() const { return band_end - band_begin; }
  int64_t origin() const { return top * stride + left; }
  int64_t plane() const { return canvas_rows * stride; }  // elements of a channel
  int64_t layer() const { return channels * plane(); }
  // Pixel (i, j) of channel c of a band is at c plane() + origin() + i stride + j in layer 0. In layer n, it is
  // in_layer(n) elements after that.
  int64_t in_layer(int64_t n) const { return n * (layer() - step); }

  // Sizes of memory, in elements: a canvas, a gradient, scratch memory, and the data that the forward of `length`
  // points keeps for the backward. All of it must start at a multiple of 64 bytes.
  int64_t canvas() const { return layers * layer(); }
  int64_t gradient() const { return layer(); }
  int64_t scratch() const { return padded ? group() : 3 * rows * lanes; }
  int64_t kept(int64_t length) const { return padded ? divide_up(length, lanes) * group() : 0; }
  // The kept data of `lanes` points: their tables over rows and columns, and five numbers for each point.
  int64_t group() const { return round_up(lanes * (rows + vectors * lanes + 5), 64 / static_cast<int64_t>(sizeof(T))); }

  // The polynomials of the columns, for windows that start 0, 1, ... columns after the start of a vector; 0 outside the
  // window.
  const T* columns() const { return column_lines.empty() ? nullptr : column_lines[0].values; }
  // The columns' distances from the column of the point's center; `far` outside the window.
  const T* displacements() const { return displacement_lines[0].values; }
  static constexpr T far = T(1e18);  // its square is finite

 private:
  // Whether a window fits into the image, the canvas has at most 4 times the image's elements plus 4096, and its
  // positions fit into int32. The factor 2 allows for rounding up to vectors and passes.
  bool fits_padding() const {
    const double r = static_cast<double>(radius), across = static_cast<double>(width),
                 down = static_cast<double>(height);
    const double elements = (down + 4 * r) * (across + 4 * r + 2 * static_cast<double>(lanes));
    return 2 * r + 1 <= std::min(down, across) && elements <= 4 * down * across + 4096 &&
           2 * elements * static_cast<double>(channels) < 2147483648.0;
  }

  void split_passes() {
    pass = divide_up(vectors, divide_up(vectors, pass_vectors));
    vectors = round_up(vectors, pass);
  }

  void pad() {
    const auto r = static_cast<int64_t>(radius);
    rows = 2 * r + 1;
    const auto count = [&](int64_t start) { return divide_up(rows + start - 1, lanes); };
    layers = lanes > 8 && count(8) < count(lanes) ? lanes / 8 : 1;
    step = lanes / layers;
    vectors = count(step);
    split_passes();
    top = 2 * r;
    left = round_up(2 * r, lanes);
    canvas_rows = band() + 2 * top;
    stride = round_up((width - 1 + left) / step * step + vectors * lanes, lanes);
    degree = polynomial_degree(bandwidth);
    fill_tables(r);
  }

  void mask() {
    const double diameter = 2.0 * static_cast<double>(radius) + 1.0;
    const int64_t width_vectors = divide_up(width, lanes);
    rows = static_cast<int64_t>(std::min(diameter, static_cast<double>(band())));
    // A window can start anywhere in its first vector, so it ends up to lanes - 1 columns after its own length.
    vectors = static_cast<int64_t>(
        std::min(std::ceil((diameter + static_cast<double>(lanes) - 1) / static_cast<double>(lanes)),
                 static_cast<double>(width_vectors)));
    split_passes();
    layers = 1;
    step = lanes;
    top = left = 0;
    canvas_rows = band();
    stride = std::max(width_vectors, vectors) * lanes;
    degree = 0;
    // Half a pixel allows for the rounding. The limits are finite, so that infinite points are left out.
    const T reach = radius + T(0.5), largest = std::numeric_limits<T>::max();
    lowest_x = std::max(static_cast<T>(band_begin) - reach, -largest);
    highest_x = std::min(static_cast<T>(band_end - 1) + reach, largest);
    lowest_y = std::max(-reach, -largest);
    highest_y = std::min(static_cast<T>(width - 1) + reach, largest);
  }

  void fill_tables(int64_t r) {
    const int64_t across = vectors * lanes, line = 64 / static_cast<int64_t>(sizeof(T));
    displacement_lines.resize(divide_up(step * across, line));
    for (int64_t shift = 0; shift < step; ++shift) {
      T* to = displacement_lines.data()->values + shift * across;
      std::fill(to, to + across, far);
      for (int64_t k = -r; k <= r; ++k) to[shift + r + k] = static_cast<T>(k);
    }
    if (degree == 0) return;
    row_coefficients = gaussian_polynomials<T>(static_cast<double>(bandwidth), r, degree);
    column_lines.resize(divide_up(step * (degree + 1) * across, line));  // zeros
    for (int64_t shift = 0; shift < step; ++shift)
      for (int64_t m = 0; m <= degree; ++m) {
        T* to = column_lines.data()->values + (shift * (degree + 1) + m) * across + shift + r;
        for (int64_t k = 0; k <= r; ++k) {
          const T value = row_coefficients[k * (degree + 1) + m];
          to[-k] = m % 2 ? -value : value;
          to[k] = value;
        }
      }
  }
};

// Adds up the layers of a row of pixels.
template <typename T>
FRACTALOPS_INLINE void add_layers(const Raster<T>& raster, const T* canvas /* (W) in layer 0 */, T* row /* (W) */) {
  std::memcpy(row, canvas, sizeof(T) * raster.width);
  for (int64_t n = 1; n < raster.layers; ++n)
    for (int64_t j = 0; j < raster.width; ++j) row[j] += canvas[raster.in_layer(n) + j];
}

// Copies a gradient image into a gradient, whose padding must be zero already.
template <typename T>
void copy_to_gradient(const Raster<T>& raster, const T* image /* (C, H, W) */, T* gradient /* gradient() */) {
  for (int64_t c = 0; c < raster.channels; ++c)
    for (int64_t i = 0; i < raster.height; ++i)
      std::memcpy(gradient + c * raster.plane() + raster.origin() + i * raster.stride,
                  image + (c * raster.height + i) * raster.width, sizeof(T) * raster.width);
}

// Returns the nanoseconds that a point takes in a strip of `rows` rows: a constant, and a part for each vector of its
// window. A window that is as high as the image is cut to the strip.
template <typename T>
double point_time(const Raster<T>& raster, int64_t rows) {
  const int64_t window_rows = raster.rows < raster.height ? raster.rows : rows;
  return 5 + 0.5 * static_cast<double>(window_rows * raster.vectors * raster.channels);
}

inline constexpr double pixel_time = 0.25;  // nanoseconds to clear and copy one element of a canvas

// Returns the nanoseconds that one thread takes to draw an image of `points` points.
template <typename T>
double image_time(const Raster<T>& raster, int64_t points) {
  return point_time(raster, raster.height) * static_cast<double>(points) +
         pixel_time * static_cast<double>(raster.canvas());
}

}  // namespace fractalops::cpu
