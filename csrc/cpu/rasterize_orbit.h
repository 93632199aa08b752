// What does not change from point to point while an orbit is drawn as FractalDB's generator draws it. No torch in here,
// so that the sanitizers can run the kernel alone.
#pragma once

#include <cstdint>

namespace fractalops::cpu {

typedef double Pair __attribute__((vector_size(16)));  // x and y

// `v -> first x + second y + offset`, in a cache line of its own.
struct alignas(64) OrbitMap {
  Pair first, second, offset;  // columns of the matrix
};

struct OrbitImage {
  static constexpr int64_t margin = 3;                   // of the canvas, above and to the left: how far patches reach
  static constexpr int64_t mask_bits = 9;                // of a key
  static constexpr int64_t most_points = (1 << 23) - 1;  // of an image: a key of 32 bits holds a number and a mask
  static constexpr int64_t colors = 128;                 // points take turns

  int64_t points;                  // T
  int64_t height, width, padding;  // 1 <= padding, 2 padding < min(H, W)

  int64_t stride() const { return width + margin; }
  int64_t canvas() const { return (height + margin) * stride(); }
};

// An orbit on its way from its maps to its image.
struct Orbit {
  const OrbitMap* table;  // (N)
  const double* bounds;   // (N), the sums of the maps' probabilities
  const double* uniform;  // (T - 1)
  const int16_t* mask;    // (T), or null where points are drawn
  Pair* points;           // (T)
  uint8_t* out;           // (H, W)
  Pair low, high;         // of the points
};

}  // namespace fractalops::cpu
