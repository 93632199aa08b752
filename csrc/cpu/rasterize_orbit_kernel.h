// Draws orbits as FractalDB's generator draws them, with the same arithmetic in double. So this file must be compiled
// without contraction of products and sums. Each point of an orbit depends on the point before it. A point of a single
// orbit takes the latency of a product and two sums, so several orbits are computed together. A patch overwrites all
// nine of its pixels. So a pixel is determined by the last point whose patch covers it. Points write their number and
// their mask to a canvas. Each pixel then reads the nine positions from which a patch can cover it.
//
// This file is included once per instruction set, so it has no include guard. It does not include torch, so that the
// sanitizer tests can compile it separately.

namespace fractalops::cpu::FRACTALOPS_ISA {

// Writes the number of bounds that each number exceeds. This is the first map whose bound the number does not exceed,
// or N.
FRACTALOPS_INLINE void choose_maps(const double* bounds /* (N) */, int64_t maps, const double* uniform /* (count) */,
                                   int64_t count, int32_t* map /* (count) */) {
  for (int64_t t = 0; t < count; ++t) map[t] = uniform[t] > bounds[0];
  for (int64_t n = 1; n < maps; ++n)
    for (int64_t t = 0; t < count; ++t) map[t] += uniform[t] > bounds[n];
}

// Computes orbits from the origin, which is their first point. A number above all bounds leaves the point unchanged.
template <int count>
void run_orbits(Orbit* orbits /* (count) */, int64_t maps, int64_t points) {
  constexpr int64_t run = 256;
  int32_t map[count][run];
  Pair point[count] = {}, low[count] = {}, high[count] = {};
  for (int k = 0; k < count; ++k) orbits[k].points[0] = point[k];
  for (int64_t begin = 1; begin < points; begin += run) {
    const int64_t length = points - begin < run ? points - begin : run;
    for (int k = 0; k < count; ++k) choose_maps(orbits[k].bounds, maps, orbits[k].uniform + begin - 1, length, map[k]);
    for (int64_t t = 0; t < length; ++t)
      for (int k = 0; k < count; ++k) {
        if (__builtin_expect(map[k][t] < maps, true)) {
          const OrbitMap& chosen = orbits[k].table[map[k][t]];
          const Pair x = {point[k][0], point[k][0]}, y = {point[k][1], point[k][1]};
          point[k] = x * chosen.first + y * chosen.second + chosen.offset;
        }
        low[k] = point[k] < low[k] ? point[k] : low[k];  // a NaN is left out
        high[k] = point[k] > high[k] ? point[k] : high[k];
        orbits[k].points[begin + t] = point[k];
      }
  }
  for (int k = 0; k < count; ++k) {
    orbits[k].low = low[k];
    orbits[k].high = high[k];
  }
}

// Returns how many points of an orbit are drawn. If a coordinate becomes NaN, drawing ends 100 points before the first
// NaN, and the limits are computed again.
inline int64_t count_drawn(Orbit& orbit, int64_t points) {
  int64_t drawn = points;
  for (int axis = 0; axis < 2; ++axis) {
    int64_t first = drawn;  // after a NaN, all coordinates are NaN
    while (first > 0 && orbit.points[first - 1][axis] != orbit.points[first - 1][axis]) --first;
    if (first < drawn) drawn = first > 100 ? first - 100 : 0;
  }
  if (drawn == points) return points;
  orbit.low = orbit.high = Pair{};
  for (int64_t t = 0; t < drawn; ++t) {
    orbit.low = orbit.points[t] < orbit.low ? orbit.points[t] : orbit.low;
    orbit.high = orbit.points[t] > orbit.high ? orbit.points[t] : orbit.high;
  }
  return drawn;
}

// Computes the pixels of points, two points at a time. They are truncated like `numpy.uint16`; NaN gives 0.
FRACTALOPS_INLINE void place(const Pair* points /* (count) */, int64_t count, Pair low, Pair range, Pair span,
                             double padding, int32_t* pixel /* (count, 2) */) {
  typedef double Two __attribute__((vector_size(32)));
  typedef int32_t TwoPixels __attribute__((vector_size(16)));
  const auto twice = [](Pair pair) FRACTALOPS_LAMBDA { return Two{pair[0], pair[1], pair[0], pair[1]}; };
  const Two lows = twice(low), ranges = twice(range), spans = twice(span);
  const auto place_two = [&](Two two) FRACTALOPS_LAMBDA {
    const Two stretched = (two - lows) / ranges * spans + padding;
    return __builtin_convertvector(stretched > 0 ? stretched : Two{}, TwoPixels);
  };
  for (int64_t t = 0; t + 1 < count; t += 2) {
    Two two;
    __builtin_memcpy(&two, points + t, sizeof(two));
    const TwoPixels pixels = place_two(two);
    __builtin_memcpy(pixel + 2 * t, &pixels, sizeof(pixels));
  }
  if (count % 2) {
    const TwoPixels pixels = place_two(twice(points[count - 1]));
    __builtin_memcpy(pixel + 2 * (count - 1), &pixels, sizeof(pixels) / 2);
  }
}

// Writes to the canvas the key of the last point at each position: its number, from 1, above the bits of its mask.
inline void mark_points(const OrbitImage& image, const Orbit& orbit, int64_t count, uint32_t* canvas /* canvas() */) {
  const double padding = static_cast<double>(image.padding);
  const Pair span = {static_cast<double>(image.width - 2 * image.padding),
                     static_cast<double>(image.height - 2 * image.padding)};
  uint32_t* corner = canvas + OrbitImage::margin * image.stride() + OrbitImage::margin;
  constexpr int64_t run = 256;
  int32_t pixel[2 * run];
  constexpr uint32_t all = (1u << OrbitImage::mask_bits) - 1;
  for (int64_t begin = 0; begin < count; begin += run) {
    const int64_t length = count - begin < run ? count - begin : run;
    place(orbit.points + begin, length, orbit.low, orbit.high - orbit.low, span, padding, pixel);
    for (int64_t t = 0; t < length; ++t) {
      const uint32_t number = static_cast<uint32_t>(begin + t + 1) << OrbitImage::mask_bits;
      corner[pixel[2 * t + 1] * image.stride() + pixel[2 * t]] =
          number | (orbit.mask ? static_cast<uint32_t>(orbit.mask[begin + t]) & all : 1u);
    }
  }
}

// Returns 0 for a pixel that is not lit. Otherwise returns the number of its point modulo the number of colors, from 1.
FRACTALOPS_INLINE uint8_t level_of(uint32_t number /* from 1, or 0 */, bool lit) {
  return lit ? static_cast<uint8_t>((number - 1) % OrbitImage::colors + 1) : 0;
}

inline void draw_points(const OrbitImage& image, const uint32_t* canvas, uint8_t* __restrict__ out /* (H, W) */) {
  for (int64_t row = 0; row < image.height; ++row) {
    const uint32_t* keys = canvas + (row + OrbitImage::margin) * image.stride() + OrbitImage::margin;
    uint8_t* levels = out + (image.height - 1 - row) * image.width;  // (W)
    for (int64_t column = 0; column < image.width; ++column)
      levels[column] = level_of(keys[column] >> OrbitImage::mask_bits, keys[column] != 0);
  }
}

// A point's patch covers the three rows and columns after the point. The highest bit of the mask is the patch's first
// pixel.
inline void draw_patches(const OrbitImage& image, const uint32_t* canvas, uint8_t* __restrict__ out /* (H, W) */) {
  for (int64_t row = 0; row < image.height; ++row) {
    const uint32_t* keys = canvas + (row + OrbitImage::margin) * image.stride() + OrbitImage::margin;
    uint8_t* levels = out + (image.height - 1 - row) * image.width;  // (W)
    for (int64_t column = 0; column < image.width; ++column) {
      uint32_t last = 0;  // number of the last point, from 1; the lowest bit is its mask at this pixel
      for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 3; ++j) {
          const uint32_t key = keys[column - (i + 1) * image.stride() - (j + 1)];
          const uint32_t candidate = (key >> OrbitImage::mask_bits << 1) | (key >> (8 - 3 * i - j) & 1u);
          last = candidate > last ? candidate : last;
        }
      levels[column] = level_of(last >> 1, last & 1);
    }
  }
}

template <int count>
void rasterize_orbits(const OrbitImage& image, Orbit* orbits /* (count) */, int64_t maps,
                      uint32_t* canvas /* canvas() */) {
  run_orbits<count>(orbits, maps, image.points);
  for (int k = 0; k < count; ++k) {
    __builtin_memset(canvas, 0, sizeof(uint32_t) * static_cast<size_t>(image.canvas()));
    mark_points(image, orbits[k], count_drawn(orbits[k], image.points), canvas);
    orbits[k].mask ? draw_patches(image, canvas, orbits[k].out) : draw_points(image, canvas, orbits[k].out);
  }
}

}  // namespace fractalops::cpu::FRACTALOPS_ISA
