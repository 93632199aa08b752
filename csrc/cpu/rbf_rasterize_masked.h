// The RBF rasterizer for a canvas without padding: windows are cut at its borders, and masked if they are narrower than
// their vectors.
//
// Ownership: the row tables of `lanes` points are computed together, and a lane owns a point. The columns are then
// processed point by point, and a lane owns a column.
//
// This file is included by rbf_rasterize_kernel.h, once per instruction set.

namespace fractalops::cpu::FRACTALOPS_ISA {

// The points of one run that reach the band, in their order, padded to whole vectors.
template <typename T>
struct Reached {
  T x[run_points + Lanes<T>::count];
  T y[run_points + Lanes<T>::count];
  int64_t point[run_points + Lanes<T>::count];
  int count;
};

template <typename T>
FRACTALOPS_INLINE void collect(const Raster<T>& raster, const T* points /* (T, 2) */, int64_t begin, int64_t end,
                               Reached<T>& reached) {
  constexpr int lanes = Lanes<T>::count;
  int count = 0;
  const auto collect_one = [&](int64_t t) {
    const T x = points[2 * t], y = points[2 * t + 1];
    reached.x[count] = x;
    reached.y[count] = y;
    reached.point[count] = t;
    // This is false for NaN. It does not short-circuit, because a branch on data would cost more than the comparisons.
    count += (x >= raster.lowest_x) & (x <= raster.highest_x) & (y >= raster.lowest_y) & (y <= raster.highest_y);
  };
  Vector<T> lowest, highest;  // alternately of x and y, as in memory
  for (int lane = 0; lane < lanes; ++lane) {
    lowest[lane] = lane % 2 ? raster.lowest_y : raster.lowest_x;
    highest[lane] = lane % 2 ? raster.highest_y : raster.highest_x;
  }
  int64_t t = begin;
  for (; t + lanes <= end; t += lanes) {
    const Vector<T> v = load(points + 2 * t), w = load(points + 2 * t + lanes);
    // Usually all of these points reach the band.
    if (all<T>((v >= lowest) & (v <= highest) & (w >= lowest) & (w <= highest))) {
      Vector<T> x, y;
      take_apart<T>(v, w, x, y);
      store<T>(x, reached.x + count);
      store<T>(y, reached.y + count);
      for (int lane = 0; lane < lanes; ++lane) reached.point[count + lane] = t + lane;
      count += lanes;
    } else {
      for (int lane = 0; lane < lanes; ++lane) collect_one(t + lane);
    }
  }
  for (; t < end; ++t) collect_one(t);
  for (int lane = 0; lane < lanes; ++lane) reached.x[count + lane] = reached.y[count + lane] = T(0);
  reached.count = count;
}

// The geometry of windows, in registers. If it were read from a Raster, it would be loaded again after every store of a
// pixel.
template <typename T>
struct Windows {
  Vector<T> radius, minus_inverse_bandwidth, smallest_exponent;
  Vector<T> lowest_row, highest_row;  // limits of a window's first row, in the image
  T column_radius, highest_column;    // for a window's first column
  int64_t rows, stride;

  FRACTALOPS_INLINE explicit Windows(const Raster<T>& raster)
      : radius(raster.radius - Vector<T>{}),
        minus_inverse_bandwidth(-raster.inverse_bandwidth - Vector<T>{}),
        smallest_exponent(Lanes<T>::smallest_exponent - Vector<T>{}),
        lowest_row(static_cast<T>(raster.band_begin) - Vector<T>{}),
        highest_row(static_cast<T>(raster.band_end - raster.rows) - Vector<T>{}),
        column_radius(raster.radius),
        highest_column(static_cast<T>(raster.stride - raster.vectors * Lanes<T>::count)),
        rows(raster.rows),
        stride(raster.stride) {}

  // Returns exp(-(position - pixel)^2 / tau), or 0 outside the window. Sets `distance` to position - pixel.
  FRACTALOPS_INLINE Vector<T> gaussian(const Vector<T>& position, const Vector<T>& center, const Vector<T>& pixel,
                                       Vector<T>& distance) const {
    distance = position - pixel;
    const Vector<T> exponent = distance * distance * minus_inverse_bandwidth;
    const Integers<T> keep = (magnitude<T>(pixel - center) <= radius) & (exponent >= smallest_exponent);
    return reinterpret_cast<Vector<T>>(reinterpret_cast<Integers<T>>(exp_nonpositive(exponent)) & keep);
  }

  // Returns the first row of each lane's window.
  FRACTALOPS_INLINE Vector<T> first_rows(const Vector<T>& center) const {
    const Vector<T> first = center - radius;
    const Vector<T> capped = first < highest_row ? first : highest_row;
    return capped > lowest_row ? capped : lowest_row;
  }

  // Returns the first column of a point's window, rounded down to the start of a vector.
  FRACTALOPS_INLINE int64_t first_column(T center) const {
    T first = center - column_radius;
    first = first < highest_column ? first : highest_column;
    first = first > T(0) ? first : T(0);
    return static_cast<int64_t>(first) & ~static_cast<int64_t>(Lanes<T>::count - 1);
  }
};

// Computes tables over the rows of the windows of `lanes` points: tables[m][k] = X d^m at row first + k, for m <
// Moments.
template <typename T, int Moments>
FRACTALOPS_INLINE void fill_row_tables(const Windows<T>& windows, const Vector<T>& x, const Vector<T>& center,
                                       const Vector<T>& first, T* tables /* (Moments, rows, lanes) */) {
  constexpr int lanes = Lanes<T>::count;
  Vector<T> pixel = first;
  for (int64_t k = 0; k < windows.rows; ++k) {
    Vector<T> distance;
    Vector<T> value = windows.gaussian(x, center, pixel, distance);
    for (int m = 0; m < Moments; ++m) {
      store<T>(value, tables + (m * windows.rows + k) * lanes);
      value *= distance;
    }
    pixel += T(1);
  }
}

// Computes the sum of the first and the last image row that each point reaches. Points that reach the same rows have
// the same sum.
template <typename T>
FRACTALOPS_INLINE void find_row_cells(const Raster<T>& raster, const Vector<T>& center,
                                      typename Lanes<T>::Integer* cells /* (lanes) */) {
  const Vector<T> top = {}, bottom = static_cast<T>(raster.height - 1) - top;
  const auto in_image = [&](const Vector<T>& row) FRACTALOPS_LAMBDA {
    const Vector<T> capped = row < bottom ? row : bottom;
    return to_integers<T>(capped > top ? capped : top);
  };
  const Integers<T> found = in_image(center - raster.radius) + in_image(center + raster.radius);
  __builtin_memcpy(cells, &found, sizeof(found));
}

// Moves the pixels that the windows of a point's cell reach, and resets the number of points left to the cell.
template <typename T>
__attribute__((noinline)) void move_masked_cell(const Raster<T>& raster, T center, int64_t column, int32_t& left,
                                                T* canvas /* canvas() */, PartialSums<T>& sums) {
  left = PartialSums<T>::most;
  constexpr int64_t page_columns = 1 << PartialSums<T>::page_bits;
  const T bottom = static_cast<T>(raster.height - 1);
  const auto first = static_cast<int64_t>(std::clamp(center - raster.radius, T(0), bottom)) - raster.band_begin;
  const auto last = static_cast<int64_t>(std::clamp(center + raster.radius, T(0), bottom)) - raster.band_begin;
  const int64_t first_column = column / page_columns * page_columns;
  move_pixels(raster, first, last + 1, first_column, first_column + page_columns + raster.vectors * raster.lanes,
              canvas, sums);
}

// Adds the points of one image to a canvas.
template <typename T, int Count>
void draw_masked(const Raster<T>& raster, const T* points /* (T, 2) */, const T* weight /* (T, C) or null */,
                 int64_t length, T* __restrict canvas /* canvas() */, T* __restrict tables /* (rows, lanes) */,
                 PartialSums<T>* sums /* or null */) {
  constexpr int lanes = Lanes<T>::count;
  const Windows<T> windows(raster);
  const int64_t plane = raster.plane(), channels = raster.channels, vectors = raster.vectors;
  const int64_t first_band_row = raster.band_begin;
  int32_t* left = sums ? sums->left() : nullptr;  // (cells) or null
  const int64_t pages = sums ? sums->pages() : 0;
  Reached<T> reached;
  for (int64_t run = 0; run < length; run += run_points) {
    collect(raster, points, run, run + run_points < length ? run + run_points : length, reached);
    for (int group = 0; group < reached.count; group += lanes) {
      const Vector<T> x = load(reached.x + group), row_center = round<T>(x);
      const Vector<T> y = load(reached.y + group), column_center = round<T>(y);
      const Vector<T> first_row = windows.first_rows(row_center);
      fill_row_tables<T, 1>(windows, x, row_center, first_row, tables);
      typename Lanes<T>::Integer cells[lanes];
      if (left) find_row_cells<T>(raster, row_center, cells);
      const int members = reached.count - group < lanes ? reached.count - group : lanes;
      for (int lane = 0; lane < members; ++lane) {
        const int64_t column = windows.first_column(column_center[lane]);
        if (left)
          if (int32_t& own = left[cells[lane] * pages + (column >> PartialSums<T>::page_bits)]; --own == 0) [[unlikely]]
            move_masked_cell(raster, row_center[lane], column, own, canvas, *sums);
        T* corner = canvas + (static_cast<int64_t>(first_row[lane]) - first_band_row) * windows.stride + column;
        for (int64_t pass = 0; pass < vectors; pass += Count) {
          Vector<T> value[Count], distance;
          for (int v = 0; v < Count; ++v)
            value[v] = windows.gaussian(y[lane] - Vector<T>{}, column_center[lane] - Vector<T>{},
                                        static_cast<T>(column + (pass + v) * lanes) + iota<T>(), distance);
          for (int64_t c = 0; c < channels; ++c) {
            T* row = corner + c * plane + pass * lanes;
            Vector<T> scaled[Count];
            for (int v = 0; v < Count; ++v)
              scaled[v] = weight ? weight[reached.point[group + lane] * channels + c] * value[v] : value[v];
            for (int64_t k = 0; k < windows.rows; ++k, row += windows.stride)
              for (int v = 0; v < Count; ++v)
                store<T>(load(row + v * lanes) + tables[k * lanes + lane] * scaled[v], row + v * lanes);
          }
        }
      }
    }
  }
}

// Computes the gradients of the points [begin, end) of one image. Returns their part of the sum for the bandwidth's
// gradient.
template <typename T, int Count, bool NeedsBandwidth>
double differentiate_masked(const Raster<T>& raster, const T* points /* (T, 2) */, const T* weight /* (T, C) or null */,
                            const T* grad /* gradient() */, int64_t begin, int64_t end,
                            T* __restrict grad_points /* (T, 2) */, T* __restrict grad_weight /* (T, C) or null */,
                            T* __restrict tables /* (2 or 3, rows, lanes) */) {
  constexpr int lanes = Lanes<T>::count;
  constexpr int moments = NeedsBandwidth ? 3 : 2;
  const Windows<T> windows(raster);
  const int64_t plane = raster.plane(), channels = raster.channels, vectors = raster.vectors;
  const T slope = T(-2) * raster.inverse_bandwidth;
  const T* first_moments = tables + raster.rows * lanes;       // (rows, lanes)
  const T* second_moments = tables + 2 * raster.rows * lanes;  // (rows, lanes)
  double sum_of_squares = 0;
  Reached<T> reached;
  __builtin_memset(grad_points + 2 * begin, 0, sizeof(T) * 2 * (end - begin));
  if (grad_weight)
    __builtin_memset(grad_weight + begin * raster.channels, 0, sizeof(T) * raster.channels * (end - begin));
  for (int64_t run = begin; run < end; run += run_points) {
    collect(raster, points, run, run + run_points < end ? run + run_points : end, reached);
    for (int group = 0; group < reached.count; group += lanes) {
      const Vector<T> x = load(reached.x + group), row_center = round<T>(x);
      const Vector<T> y = load(reached.y + group), column_center = round<T>(y);
      const Vector<T> first_row = windows.first_rows(row_center);
      fill_row_tables<T, moments>(windows, x, row_center, first_row, tables);
      const int members = reached.count - group < lanes ? reached.count - group : lanes;
      for (int lane = 0; lane < members; ++lane) {
        const int64_t t = reached.point[group + lane];
        const int64_t column = windows.first_column(column_center[lane]);
        const T* corner = grad + static_cast<int64_t>(first_row[lane]) * windows.stride + column;
        Vector<T> dx = {}, dy = {}, squares = {};
        for (int64_t c = 0; c < channels; ++c) {
          const T w = weight ? weight[t * channels + c] : T(1);
          Vector<T> dw = {};
          for (int64_t pass = 0; pass < vectors; pass += Count) {
            const T* row = corner + c * plane + pass * lanes;
            Vector<T> plain[Count] = {}, first[Count] = {}, second[Count] = {};
            for (int64_t k = 0; k < windows.rows; ++k, row += windows.stride)
              for (int v = 0; v < Count; ++v) {
                const Vector<T> g = load(row + v * lanes);
                plain[v] += tables[k * lanes + lane] * g;
                first[v] += first_moments[k * lanes + lane] * g;
                if constexpr (NeedsBandwidth) second[v] += second_moments[k * lanes + lane] * g;
              }
            for (int v = 0; v < Count; ++v) {
              Vector<T> distance;
              const Vector<T> value =
                  windows.gaussian(y[lane] - Vector<T>{}, column_center[lane] - Vector<T>{},
                                   static_cast<T>(column + (pass + v) * lanes) + iota<T>(), distance);
              // These products are 0 if the value is 0, even if the square of the distance overflows.
              const Vector<T> weighted = w * value, moment = weighted * distance;
              dw += value * plain[v];
              dx += weighted * first[v];
              dy += moment * plain[v];
              if constexpr (NeedsBandwidth) squares += weighted * second[v] + moment * distance * plain[v];
            }
          }
          if (grad_weight) grad_weight[t * channels + c] = sum<T>(dw);
        }
        grad_points[2 * t] = slope * sum<T>(dx);
        grad_points[2 * t + 1] = slope * sum<T>(dy);
        if constexpr (NeedsBandwidth) sum_of_squares += static_cast<double>(sum<T>(squares));
      }
    }
  }
  return sum_of_squares;
}

}  // namespace fractalops::cpu::FRACTALOPS_ISA
