// The RBF rasterizer for a canvas that is padded by a window on each side: no window is cut, and no pixel is compared.
//
// Ownership: `lanes` points are a group. First a lane owns a point: it computes the position of the point's window and
// its table X over rows. The points are then processed one by one, and a lane owns a column. The backward processes as
// many points as there are lanes, and then adds up all their lanes together. After that, a lane owns a point again.
//
// Columns are processed in vectors that start at multiples of `step`. So points that touch the same pixels load and
// store the same memory, which the store buffer forwards. If vectors could start anywhere, a load could overlap a store
// only in part, and would wait for it.
//
// This file is included by rbf_rasterize_kernel.h, once per instruction set.

namespace fractalops::cpu::FRACTALOPS_ISA {

// The memory of a group. The forward can keep it for the backward. If the size of the window is known at compile time,
// so are the positions in this memory.
template <typename T>
struct Group {
  // (lanes) each. They are integers: the position of the first vector in a gradient; the number of columns from there
  // to the window; -1 if the point reaches a pixel, else 0.
  T *place, *shift, *reaches;
  T *row_distance, *column_distance;  // from the nearest pixel's center, (lanes) each
  T* rows;                            // (rows, lanes): X
  T* columns;                         // (lanes, vectors, lanes): Y

  FRACTALOPS_INLINE Group(int64_t window_rows, T* memory)
      : place(memory),
        shift(place + Lanes<T>::count),
        reaches(shift + Lanes<T>::count),
        row_distance(reaches + Lanes<T>::count),
        column_distance(row_distance + Lanes<T>::count),
        rows(column_distance + Lanes<T>::count),
        columns(rows + window_rows * Lanes<T>::count) {}
};

template <typename T>
FRACTALOPS_INLINE int64_t integer_at(const T* from) {
  typename Lanes<T>::Integer value;
  __builtin_memcpy(&value, from, sizeof(value));
  return value;
}

template <typename T>
FRACTALOPS_INLINE void store_integers(const Integers<T>& from, T* to) {
  store<T>(reinterpret_cast<Vector<T>>(from), to);
}

// Returns exp(-distance^2 / tau), or 0 if that is nearly subnormal.
template <typename T>
FRACTALOPS_INLINE Vector<T> gaussian(const Vector<T>& distance, T minus_inverse_bandwidth) {
  const Vector<T> exponent = distance * distance * minus_inverse_bandwidth;
  return keep<T>(exp_nonpositive(exponent), exponent >= Lanes<T>::smallest_exponent);
}

// A window and its tables, in registers. If they were read from a Raster, they would be loaded again after every store
// of a pixel. The size of the default window is known at compile time.
template <typename T, int Count, bool Default>
struct Window {
  const int64_t radius, vectors;
  const int degree;
  const T minus_inverse_bandwidth;
  const T *columns, *displacements;  // (step, degree + 1, vectors, lanes), (step, vectors, lanes)

  FRACTALOPS_INLINE explicit Window(const Raster<T>& raster)
      : radius(Default ? default_radius : raster.rows / 2),
        vectors(Default ? Count : raster.vectors),
        degree(Default ? default_degree : raster.degree),
        minus_inverse_bandwidth(-raster.inverse_bandwidth),
        columns(raster.columns()),
        displacements(raster.displacements()) {}

  FRACTALOPS_INLINE const T* displacement(int64_t shift, int64_t first) const {
    return displacements + (shift * vectors + first) * Lanes<T>::count;
  }

  // Computes a point's table over the columns of Count vectors, from the window's vector `first` on.
  FRACTALOPS_INLINE void find_columns(int64_t shift, T distance, int64_t first, Vector<T> (&value)[Count]) const {
    constexpr int lanes = Lanes<T>::count;
    if (degree == 0) {
      for (int v = 0; v < Count; ++v)
        value[v] = gaussian<T>(distance - load(displacement(shift, first + v)), minus_inverse_bandwidth);
      return;
    }
    const int64_t across = vectors * lanes;
    const T* coefficients = columns + (shift * (degree + 1) + degree) * across + first * lanes;
    for (int v = 0; v < Count; ++v) value[v] = load(coefficients + v * lanes);
    repeat<Default, default_degree>(degree, [&](int64_t) FRACTALOPS_LAMBDA {
      coefficients -= across;
      for (int v = 0; v < Count; ++v) value[v] = value[v] * distance + load(coefficients + v * lanes);
    });
  }
};

// Moves the pixels that the windows of a point's cell reach, and resets the number of points left to the cell.
template <typename T>
__attribute__((noinline)) void move_cell(const Raster<T>& raster, int64_t place, int32_t& left,
                                         T* canvas /* canvas() */, PartialSums<T>& sums) {
  left = PartialSums<T>::most;
  constexpr int64_t page_columns = 1 << PartialSums<T>::page_bits;
  const int64_t first_row = place / raster.stride - raster.top;
  const int64_t first_column = place % raster.stride / page_columns * page_columns - raster.left;
  move_pixels(raster, first_row, first_row + raster.rows, first_column, first_column + page_columns + raster.rows - 1,
              canvas, sums);
}

// Computes the positions of a group's windows and their tables over rows. Returns whether any window reaches a pixel.
template <typename T, int Count, bool Default>
FRACTALOPS_INLINE bool place_group(const Raster<T>& raster, const Window<T, Count, Default>& window,
                                   const T* points /* (members, 2) */, int64_t members, const Group<T>& group,
                                   PartialSums<T>* sums = nullptr) {
  constexpr int lanes = Lanes<T>::count;
  using Integer = typename Lanes<T>::Integer;
  Vector<T> x, y;
  if (members == lanes) {
    take_apart<T>(load(points), load(points + lanes), x, y);
  } else {
    // The lanes without a point reach nothing.
    T padded[2 * lanes];
    for (int i = 0; i < 2 * lanes; ++i) padded[i] = i < 2 * members ? points[i] : std::numeric_limits<T>::quiet_NaN();
    take_apart<T>(load(padded), load(padded + lanes), x, y);
  }
  const T radius = static_cast<T>(window.radius);
  const Vector<T> row = round<T>(x), column = round<T>(y);
  // This is false for NaN.
  const Integers<T> reaches = (row >= static_cast<T>(raster.band_begin) - radius) &
                              (row <= static_cast<T>(raster.band_end - 1) + radius) & (column >= -radius) &
                              (column <= static_cast<T>(raster.width - 1) + radius);
  store_integers<T>(reaches, group.reaches);
  const Vector<T> d = keep<T>(x - row, reaches);
  store<T>(d, group.row_distance);
  store<T>(keep<T>(y - column, reaches), group.column_distance);
  // The row and column of a window's first pixel, in the padded band.
  const Integers<T> first_row =
      to_integers<T>(keep<T>(row, reaches)) + static_cast<Integer>(raster.top - window.radius - raster.band_begin);
  const Integers<T> first_column =
      to_integers<T>(keep<T>(column, reaches)) + static_cast<Integer>(raster.left - window.radius);
  const Integers<T> shift = first_column & static_cast<Integer>(raster.step - 1);
  store_integers<T>(shift & reaches, group.shift);
  store_integers<T>((first_row * static_cast<Integer>(raster.stride) + first_column - shift) & reaches, group.place);
  if (!any<T>(reaches)) return false;
  if (sums) {  // nothing is kept then, so there is room for the cells
    const Integers<T> page = first_column >> PartialSums<T>::page_bits;
    store_integers<T>(first_row * static_cast<Integer>(sums->pages()) + page, group.columns);
  }

  T* center = group.rows + window.radius * lanes;
  if (window.degree == 0) {
    for (int64_t k = -window.radius; k <= window.radius; ++k)
      store<T>(gaussian<T>(d - static_cast<T>(k), window.minus_inverse_bandwidth), center + k * lanes);
    return true;
  }
  const Vector<T> square = d * d;
  const T* coefficients = raster.row_coefficients.data();  // (degree + 1) for each k
  repeat<Default, default_radius + 1>(window.radius + 1, [&](int64_t k) FRACTALOPS_LAMBDA {
    const T* c = coefficients + k * (window.degree + 1);  // (degree + 1)
    Vector<T> even = c[window.degree] - Vector<T>{}, odd = c[window.degree - 1] - Vector<T>{};
    for (int m = window.degree - 2; m > 0; m -= 2) {
      even = even * square + c[m];
      odd = odd * square + c[m - 1];
    }
    even = even * square + c[0];
    store<T>(even + odd * d, center + k * lanes);
    store<T>(even - odd * d, center - k * lanes);
  });
  return true;
}

// Adds the points of one image to a canvas.
template <typename T, int Count, bool Default>
void draw_padded(const Raster<T>& raster, const T* points /* (T, 2) */, const T* weight /* (T, C) or null */,
                 int64_t length, T* __restrict canvas /* canvas() */, T* scratch /* group() */,
                 T* kept /* kept(T) or null */, PartialSums<T>* sums /* or null */) {
  constexpr int lanes = Lanes<T>::count;
  const Window<T, Count, Default> window(raster);
  const int64_t channels = raster.channels, stride = raster.stride, plane = raster.plane();
  const int64_t between_layers = raster.layer() / raster.step - 1, size = raster.group();
  const T one = 1;
  const T* w = weight ? weight : &one;  // (C) of a point
  const int64_t next_weight = weight ? channels : 0;
  int32_t* left = sums ? sums->left() : nullptr;  // (cells) or null
  for (int64_t t = 0; t < length; t += lanes) {
    const Group<T> group(2 * window.radius + 1, kept ? kept + t / lanes * size : scratch);
    const int64_t members = length - t < lanes ? length - t : lanes;
    if (!place_group<T>(raster, window, points + 2 * t, members, group, sums)) continue;
    for (int64_t lane = 0; lane < members; ++lane) {
      if (integer_at(group.reaches + lane) == 0) continue;
      const int64_t place = integer_at(group.place + lane), shift = integer_at(group.shift + lane);
      if (left)
        if (int32_t& own = left[integer_at(group.columns + lane)]; --own == 0) [[unlikely]]
          move_cell(raster, place, own, canvas, *sums);
      T* corner = canvas + place;
      if constexpr (FRACTALOPS_VECTOR_BYTES > 32) corner += (place & (lanes - 1)) * between_layers;  // else one layer
      for (int64_t first = 0; first < window.vectors; first += Count) {
        Vector<T> value[Count];
        window.find_columns(shift, group.column_distance[lane], first, value);
        if (kept)
          for (int v = 0; v < Count; ++v)
            store<T>(value[v], group.columns + (lane * window.vectors + first + v) * lanes);
        int64_t c = 0;
        do {
          Vector<T> scaled[Count];
          for (int v = 0; v < Count; ++v) scaled[v] = w[(t + lane) * next_weight + c] * value[v];
          T* row = corner + c * plane + first * lanes;
          const T* x = group.rows + lane;
          repeat<Default, 2 * default_radius + 1>(2 * window.radius + 1, [&](int64_t) FRACTALOPS_LAMBDA {
            for (int v = 0; v < Count; ++v) store<T>(load(row + v * lanes) + *x * scaled[v], row + v * lanes);
            row += stride;
            x += lanes;
          });
        } while (++c < channels);
      }
    }
  }
}

// Sums over a point's window. Let k and l be a pixel's row and column distance from the nearest pixel. The sums are
// those of X Y g, k X Y g, l X Y g and (k^2 + l^2) X Y g. A lane owns a column at first, and a point at the end.
template <typename T>
struct Moments {
  Vector<T> plain, row, column, squares;
};

// Sums over rows. The rows above and below the nearest pixel are processed from the outside to the inside. So a row
// that is k rows away is in k of the partial sums, and counts k times in their sum. In the sum of these sums it counts
// (k + 1) k / 2 times.
template <typename T, int Count, bool Default, bool NeedsBandwidth>
FRACTALOPS_INLINE void add_window(const Window<T, Count, Default>& window, const T* grad, int64_t stride, const T* x,
                                  const Vector<T>* value /* (Count) */, const T* displacement /* (Count, lanes) */,
                                  Moments<T>& moments) {
  constexpr int lanes = Lanes<T>::count;
  Vector<T> above[Count] = {}, below[Count] = {}, row_above[Count] = {}, row_below[Count] = {}, second[Count] = {};
  const T *last = grad + 2 * window.radius * stride, *last_x = x + 2 * window.radius * lanes;
  repeat<Default, default_radius>(window.radius, [&](int64_t) FRACTALOPS_LAMBDA {
    for (int v = 0; v < Count; ++v) {
      above[v] += *x * load(grad + v * lanes);
      below[v] += *last_x * load(last + v * lanes);
      row_above[v] += above[v];
      row_below[v] += below[v];
      if constexpr (NeedsBandwidth) second[v] += row_above[v] + row_below[v];
    }
    grad += stride;
    last -= stride;
    x += lanes;
    last_x -= lanes;
  });
  for (int v = 0; v < Count; ++v) {
    const Vector<T> plain = value[v] * (above[v] + *x * load(grad + v * lanes) + below[v]);
    const Vector<T> column = plain * load(displacement + v * lanes);
    moments.plain += plain;
    moments.row += value[v] * (row_below[v] - row_above[v]);
    moments.column += column;
    if constexpr (NeedsBandwidth)
      moments.squares +=
          value[v] * (T(2) * second[v] - (row_above[v] + row_below[v])) + column * load(displacement + v * lanes);
  }
}

// Computes the gradients of the points [begin, end) of one image. Returns their part of the sum for the bandwidth's
// gradient.
template <typename T, int Count, bool Default, bool NeedsBandwidth>
double differentiate_padded(const Raster<T>& raster, const T* points /* (T, 2) */, const T* weight /* (T, C) or null */,
                            const T* grad /* gradient() */, int64_t begin, int64_t end,
                            T* __restrict grad_points /* (T, 2) */, T* __restrict grad_weight /* (T, C) or null */,
                            T* scratch /* group() */, T* kept /* kept(T) or null */) {
  constexpr int lanes = Lanes<T>::count;
  const Window<T, Count, Default> window(raster);
  const int64_t channels = raster.channels, stride = raster.stride, plane = raster.plane(), size = raster.group();
  const T slope = T(-2) * raster.inverse_bandwidth;
  double sum_of_squares = 0;
  for (int64_t t = begin; t < end; t += lanes) {
    const int64_t members = end - t < lanes ? end - t : lanes;
    const Group<T> group(2 * window.radius + 1, kept ? kept + (t - begin) / lanes * size : scratch);
    if (!kept) {
      place_group<T>(raster, window, points + 2 * t, members, group);
      for (int64_t lane = 0; lane < lanes; ++lane)
        for (int64_t first = 0; first < window.vectors; first += Count) {
          Vector<T> value[Count];
          window.find_columns(integer_at(group.shift + lane), group.column_distance[lane], first, value);
          for (int v = 0; v < Count; ++v)
            store<T>(value[v], group.columns + (lane * window.vectors + first + v) * lanes);
        }
    }
    const Integers<T> reaches = reinterpret_cast<Integers<T>>(load(group.reaches));
    const Vector<T> row_distance = load(group.row_distance), column_distance = load(group.column_distance);
    Vector<T> dx = {}, dy = {}, squares = {};
    for (int64_t c = 0; c < channels; ++c) {
      const T* rows = group.rows;  // (rows, lanes)
      // Otherwise the compiler moves all loads of the tables out of this loop, and their values onto the stack.
      asm("" : "+r"(rows));
      Vector<T> plain[lanes / 4], row[lanes / 4], column[lanes / 4], both[lanes / 4];
#pragma GCC unroll 1
      for (int quad = 0; quad < lanes / 4; ++quad) {
        Vector<T> p[4], r[4], l[4], b[4];
        repeat<Default, 4>(4, [&](int64_t each) FRACTALOPS_LAMBDA {
          const int64_t lane = 4 * quad + each;
          Moments<T> moments = {};
          const T* corner = grad + c * plane + integer_at(group.place + lane);
          const int64_t shift = integer_at(group.shift + lane);
          for (int64_t first = 0; first < window.vectors; first += Count) {
            Vector<T> value[Count];
            for (int v = 0; v < Count; ++v)
              value[v] = load(group.columns + (lane * window.vectors + first + v) * lanes);
            add_window<T, Count, Default, NeedsBandwidth>(window, corner + first * lanes, stride, rows + lane, value,
                                                          window.displacement(shift, first), moments);
          }
          p[each] = moments.plain;
          r[each] = moments.row;
          l[each] = moments.column;
          if constexpr (NeedsBandwidth) b[each] = moments.squares;
        });
        plain[quad] = add_quads<T>(p);
        row[quad] = add_quads<T>(r);
        column[quad] = add_quads<T>(l);
        if constexpr (NeedsBandwidth) both[quad] = add_quads<T>(b);
      }
      const Vector<T> dw = keep<T>(join_quads<T>(plain), reaches);
      if (grad_weight) scatter<T>(dw, grad_weight + t * channels + c, channels, members);
      const Vector<T> w = weight ? gather(weight + t * channels + c, channels, members) : T(1) - Vector<T>{};
      const Vector<T> sum_row = join_quads<T>(row), sum_column = join_quads<T>(column);
      dx += w * (row_distance * dw - sum_row);
      dy += w * (column_distance * dw - sum_column);
      if constexpr (NeedsBandwidth)
        squares += w * ((row_distance * row_distance + column_distance * column_distance) * dw -
                        T(2) * (row_distance * sum_row + column_distance * sum_column) + join_quads<T>(both));
    }
    Vector<T> low, high;
    put_together<T>(keep<T>(slope * dx, reaches), keep<T>(slope * dy, reaches), low, high);
    if (members == lanes) {
      store<T>(low, grad_points + 2 * t);
      store<T>(high, grad_points + 2 * t + lanes);
    } else {
      T both[2 * lanes];
      store<T>(low, both);
      store<T>(high, both + lanes);
      __builtin_memcpy(grad_points + 2 * t, both, sizeof(T) * 2 * members);
    }
    if constexpr (NeedsBandwidth) sum_of_squares += static_cast<double>(sum<T>(keep<T>(squares, reaches)));
  }
  return sum_of_squares;
}

}  // namespace fractalops::cpu::FRACTALOPS_ISA
