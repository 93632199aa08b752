// Counts points on pixels on the CPU. Each point increments one counter, for any patch. The image is then a sum of
// shifted counters, with one shift for each pixel of the patch. Counts are integers, so the order of the additions does
// not change the result.
//
// This file is included once per instruction set, so it has no include guard. It does not include torch, so that the
// sanitizer tests can compile it separately.

namespace fractalops::cpu::FRACTALOPS_ISA {

// Writes the position of each point's counter: its pixel in the canvas, or `outside`.
template <typename T, typename Counter>
FRACTALOPS_INLINE void find_counters(const PixelGrid& grid, const T* points /* (count, 2) */, int64_t count,
                                     Counter* counter /* (count) */) {
  using Bits = typename Rounding<T>::Bits;
  constexpr T rounder = Rounding<T>::rounder;
  const Bits first_row = __builtin_bit_cast(Bits, rounder) - static_cast<Bits>(grid.top);
  const Bits first_column = __builtin_bit_cast(Bits, rounder) - static_cast<Bits>(grid.left);
  const Bits rows = static_cast<Bits>(grid.rows), columns = static_cast<Bits>(grid.columns);
  const Counter stride = static_cast<Counter>(grid.stride);
  for (int64_t t = 0; t < count; ++t) {
    const Bits row = __builtin_bit_cast(Bits, points[2 * t] + rounder) - first_row;
    const Bits column = __builtin_bit_cast(Bits, points[2 * t + 1] + rounder) - first_column;
    const bool inside = (row < rows) & (column < columns);
    counter[t] = inside ? static_cast<Counter>(row) * stride + static_cast<Counter>(column) : outside<Counter>;
  }
}

// Counts points in int32, or marks the pixels with a point in uint8.
template <typename T, typename Counter, typename Count>
FRACTALOPS_INLINE void count_points(const PixelGrid& grid, const T* points /* (T, 2) */, int64_t length,
                                    Count* canvas /* canvas() */) {
  Counter counter[found_points];
  Count discarded = 0;
  const auto count_run = [&](int64_t begin, int64_t count) {
    find_counters<T, Counter>(grid, points + 2 * begin, count, counter);
    for (int64_t t = 0; t < count; ++t) {
      // The code selects an address instead of branching, because points outside come in any order.
      Count* count_of = counter[t] == outside<Counter> ? &discarded : canvas + counter[t];
      if constexpr (sizeof(Count) == 1)
        *count_of = 1;
      else
        ++*count_of;
    }
  };
  const int64_t whole = length / found_points * found_points;
  for (int64_t begin = 0; begin < whole; begin += found_points) count_run(begin, found_points);
  count_run(whole, length - whole);
}

// Writes each pixel of the image: the sum of its taps, or whether any of them is set.
template <typename Count>
FRACTALOPS_INLINE void stamp(const PixelGrid& grid, const int64_t* taps /* (tap_count) */, int64_t tap_count,
                             const Count* canvas /* canvas() */, Count* image /* (H, W) */) {
  typedef Count Vector __attribute__((vector_size(32)));
  constexpr int64_t lanes = 32 / sizeof(Count), vectors = block_columns / lanes;
  for (int64_t row = 0; row < grid.height; ++row)
    for (int64_t column = 0; column < grid.width; column += block_columns) {
      const Count* corner = canvas + row * grid.stride + column;
      Vector sum[vectors] = {};
      for (int64_t tap = 0; tap < tap_count; ++tap)
        for (int64_t v = 0; v < vectors; ++v) {
          Vector shifted;
          __builtin_memcpy(&shifted, corner + taps[tap] + v * lanes, sizeof(Vector));
          if constexpr (sizeof(Count) == 1)
            sum[v] |= shifted;
          else
            sum[v] += shifted;
        }
      const int64_t left = grid.width - column;
      __builtin_memcpy(image + row * grid.width + column, sum,
                       sizeof(Count) * (left < block_columns ? left : block_columns));
    }
}

template <typename T, typename Counter, typename Count>
void rasterize_image(const PixelGrid& grid, const T* points /* (T, 2) */, int64_t length,
                     const int64_t* taps /* (tap_count) */, int64_t tap_count, Count* image /* (H, W) */,
                     Count* canvas /* canvas(), or null if the image is the canvas */) {
  Count* counts = canvas ? canvas : image;
  __builtin_memset(counts, 0, sizeof(Count) * grid.canvas());
  count_points<T, Counter, Count>(grid, points, length, counts);
  if (canvas) stamp<Count>(grid, taps, tap_count, canvas, image);
}

}  // namespace fractalops::cpu::FRACTALOPS_ISA
