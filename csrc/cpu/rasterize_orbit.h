// Data that are the same for all points of an orbit. Orbits are drawn as FractalDB's generator draws them. This file
// does not include torch, so that the sanitizer tests can compile the kernel separately.
#pragma once

#include <cstdint>

namespace fractalops::cpu {

typedef double Pair __attribute__((vector_size(16)));  // x and y

// The map `v -> first x + second y + offset`, aligned to a cache line.
struct alignas(64) OrbitMap {
  Pair first, second, offset;  // columns of the matrix
};

struct OrbitImage {
  static constexpr int64_t margin = 3;                   // of the canvas, at the top and the left: the reach of a patch
  static constexpr int64_t mask_bits = 9;                // bits of the mask in a key
  static constexpr int64_t most_points = (1 << 23) - 1;  // per image: a key of 32 bits holds a number and a mask
  static constexpr int64_t colors = 128;                 // number of colors; consecutive points have consecutive colors

  int64_t points;                  // T
  int64_t height, width, padding;  // 1 <= padding, 2 padding < min(H, W)

  int64_t stride() const { return width + margin; }
  int64_t canvas() const { return (height + margin) * stride(); }
};

// The arrays of an orbit, from its maps to its image.
struct Orbit {
  const OrbitMap* table;  // (N)
  const double* bounds;   // (N), cumulative sums of the maps' probabilities
  const double* uniform;  // (T - 1)
  const int16_t* mask;    // (T), or null if points are drawn instead of patches
  Pair* points;           // (T)
  uint8_t* out;           // (H, W)
  Pair low, high;         // limits of the points
};

}  // namespace fractalops::cpu
