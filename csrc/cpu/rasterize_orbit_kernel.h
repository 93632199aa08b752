// Orbits drawn as FractalDB's generator draws them, in its own double arithmetic: this file must be compiled without
// contraction of products and sums. Each point of an orbit needs the one before, so a chain runs at the latency of a
// product and two sums, unless several run side by side. A patch that is pasted hides what is below it, so a pixel is
// decided by the last of the points whose patches cover it: points leave their number and their mask on a canvas, and
// each pixel then looks up the nine places from which it can be covered.
//
// Included once for each instruction set; so no include guard, and no torch, so that the sanitizers can run it alone.

namespace fractalops::cpu::FRACTALOPS_ISA {

// How many of the bounds each number is above: the first map whose bound a number doesn't pass, N where it passes all.
FRACTALOPS_INLINE void choose_maps(const double* bounds /* (N) */, int64_t maps, const double* uniform /* (count) */,
                                   int64_t count, int32_t* map /* (count) */) {
  for (int64_t t = 0; t < count; ++t) map[t] = uniform[t] > bounds[0];
  for (int64_t n = 1; n < maps; ++n)
    for (int64_t t = 0; t < count; ++t) map[t] += uniform[t] > bounds[n];
}

// An orbit from the origin, which is its first point. A number above all bounds leaves the point where it is.
inline void run_orbit(const OrbitMap* table /* (N) */, const double* bounds /* (N) */, int64_t maps,
                      const double* uniform /* (T - 1) */, int64_t points, Pair* orbit /* (T) */) {
  constexpr int64_t run = 256;
  int32_t map[run];
  Pair point = {};
  orbit[0] = point;
  for (int64_t begin = 1; begin < points; begin += run) {
    const int64_t count = points - begin < run ? points - begin : run;
    choose_maps(bounds, maps, uniform + begin - 1, count, map);
    for (int64_t t = 0; t < count; ++t) {
      if (__builtin_expect(map[t] < maps, true)) {
        const OrbitMap& chosen = table[map[t]];
        point = Pair{point[0], point[0]} * chosen.first + Pair{point[1], point[1]} * chosen.second + chosen.offset;
      }
      orbit[begin + t] = point;
    }
  }
}

// How many of an orbit's points are drawn: of one that ends in NaN those up to 100 before the first.
inline int64_t count_drawn(const Pair* orbit /* (T) */, int64_t points) {
  const auto first_nan = [&](int axis) {
    int64_t first = points;  // behind a NaN all coordinates are NaN
    while (first > 0 && orbit[first - 1][axis] != orbit[first - 1][axis]) --first;
    return first;
  };
  const int64_t first = first_nan(0) < points ? first_nan(0) : first_nan(1);
  if (first == points) return points;
  return first > 100 ? first - 100 : 0;
}

// The pixel of each coordinate, as `numpy.uint16` truncates it: 0 for NaN.
FRACTALOPS_INLINE void place(const Pair* orbit /* (count) */, int64_t count, Pair low, Pair range, Pair span,
                             double padding, int32_t* pixel /* (count, 2) */) {
  for (int64_t t = 0; t < count; ++t) {
    const Pair stretched = (orbit[t] - low) / range * span + padding;
    pixel[2 * t] = static_cast<int32_t>(stretched[0] > 0 ? stretched[0] : 0);
    pixel[2 * t + 1] = static_cast<int32_t>(stretched[1] > 0 ? stretched[1] : 0);
  }
}

// Leaves on the canvas the key of the last point of each place: its number, from 1, and below it its mask.
inline void mark_points(const OrbitImage& image, const Pair* orbit, int64_t count, const int16_t* mask /* or null */,
                        uint32_t* canvas /* canvas() */) {
  Pair low = {}, high = {};  // of the origin
  for (int64_t t = 0; t < count; ++t) {
    low = orbit[t] < low ? orbit[t] : low;
    high = orbit[t] > high ? orbit[t] : high;
  }
  const double padding = static_cast<double>(image.padding);
  const Pair span = {static_cast<double>(image.width - 2 * image.padding),
                     static_cast<double>(image.height - 2 * image.padding)};
  uint32_t* corner = canvas + OrbitImage::margin * image.stride() + OrbitImage::margin;
  constexpr int64_t run = 256;
  int32_t pixel[2 * run];
  for (int64_t begin = 0; begin < count; begin += run) {
    const int64_t length = count - begin < run ? count - begin : run;
    place(orbit + begin, length, low, high - low, span, padding, pixel);
    for (int64_t t = 0; t < length; ++t) {
      const uint32_t number = static_cast<uint32_t>(begin + t + 1) << OrbitImage::mask_bits;
      corner[pixel[2 * t + 1] * image.stride() + pixel[2 * t]] =
          number | (mask ? static_cast<uint32_t>(mask[begin + t]) : 1u);
    }
  }
}

// 0 where the image is dark, else 1 plus the number of the point there modulo the number of colors.
FRACTALOPS_INLINE uint8_t level_of(uint32_t number /* from 1, or 0 */, bool lit) {
  return lit ? static_cast<uint8_t>((number - 1) % OrbitImage::colors + 1) : 0;
}

inline void draw_points(const OrbitImage& image, const uint32_t* canvas, uint8_t* __restrict__ out /* (H, W) */) {
  for (int64_t row = 0; row < image.height; ++row) {
    const uint32_t* keys = canvas + (row + OrbitImage::margin) * image.stride() + OrbitImage::margin;
    uint8_t* levels = out + (image.height - 1 - row) * image.width;
    for (int64_t column = 0; column < image.width; ++column)
      levels[column] = level_of(keys[column] >> OrbitImage::mask_bits, keys[column] != 0);
  }
}

// A point's patch covers the three rows and columns after it; the mask's highest bit is the patch's first pixel.
inline void draw_patches(const OrbitImage& image, const uint32_t* canvas, uint8_t* __restrict__ out /* (H, W) */) {
  for (int64_t row = 0; row < image.height; ++row) {
    const uint32_t* keys = canvas + (row + OrbitImage::margin) * image.stride() + OrbitImage::margin;
    uint8_t* levels = out + (image.height - 1 - row) * image.width;
    for (int64_t column = 0; column < image.width; ++column) {
      uint32_t last = 0;  // the number of the last point, from 1, and below it whether its mask marks this pixel
      for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 3; ++j) {
          const uint32_t key = keys[column - (i + 1) * image.stride() - (j + 1)];
          const uint32_t candidate = (key >> 9 << 1) | (key >> (8 - 3 * i - j) & 1u);
          last = candidate > last ? candidate : last;
        }
      levels[column] = level_of(last >> 1, last & 1);
    }
  }
}

inline void rasterize_orbit(const OrbitImage& image, const OrbitMap* table /* (N) */, const double* bounds /* (N) */,
                            int64_t maps, const double* uniform /* (T - 1) */, const int16_t* mask /* (T) or null */,
                            Pair* orbit /* (T) */, uint32_t* canvas /* canvas() */, uint8_t* out /* (H, W) */) {
  run_orbit(table, bounds, maps, uniform, image.points, orbit);
  __builtin_memset(canvas, 0, sizeof(uint32_t) * static_cast<size_t>(image.canvas()));
  mark_points(image, orbit, count_drawn(orbit, image.points), mask, canvas);
  mask ? draw_patches(image, canvas, out) : draw_points(image, canvas, out);
}

}  // namespace fractalops::cpu::FRACTALOPS_ISA
