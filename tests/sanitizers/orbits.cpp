// FractalDB's orbits and masks without torch, for AddressSanitizer and UndefinedBehaviorSanitizer. Every buffer has
// exactly the size that the op gives it. Each image is compared with patches that are pasted one after the other. If
// one differs, the program prints it and exits with 1.
#include <cstdint>
#include <vector>

#include "../../csrc/cpu/rasterize_orbit.h"

#define FRACTALOPS_NARROW_KERNEL
#define FRACTALOPS_KERNEL "rasterize_orbit_kernel.h"
#include "../../csrc/cpu/foreach_instruction_set.h"
#define FRACTALOPS_NARROW_KERNEL
#define FRACTALOPS_KERNEL "draw_masks_kernel.h"
#include "../../csrc/cpu/foreach_instruction_set.h"

#include "checks.h"

using namespace fractalops::cpu;

namespace {

struct Example {
  std::vector<OrbitMap> table;
  std::vector<double> bounds, numbers;
  std::vector<int16_t> mask;
  std::vector<Pair> points;
  std::vector<uint8_t> out;

  Example(const OrbitImage& image, int64_t maps, double largest, uint64_t seed)
      : table(maps),
        bounds(maps),
        numbers(image.points - 1),
        mask(image.points),
        points(image.points),
        out(image.height * image.width) {
    const auto pair = [&] { return Pair{uniform(-largest, largest), uniform(-largest, largest)}; };
    for (int64_t n = 0; n < maps; ++n) {
      table[n] = OrbitMap{pair(), pair(), pair()};
      bounds[n] = static_cast<double>(n + 1) / static_cast<double>(maps) - 0.01;  // some numbers exceed them all
    }
    for (double& number : numbers) number = uniform(0, 1);
    FRACTALOPS_SELECT(draw_masks)(seed, image.points, mask.data());
    for (const int16_t each : mask) check(each >= 1 && each <= 511, "draw_masks", "outside [1, 511]");
  }

  Orbit orbit(bool patches) {
    return Orbit{table.data(),  bounds.data(), numbers.data(), patches ? mask.data() : nullptr,
                 points.data(), out.data(),    Pair{},         Pair{}};
  }

  // Draws the points one after the other.
  std::vector<uint8_t> expected(const OrbitImage& image, bool patches) const {
    std::vector<uint8_t> want(out.size());
    int64_t drawn = image.points;
    for (int axis = 0; axis < 2; ++axis)
      for (int64_t t = 0; t < drawn; ++t)
        if (std::isnan(points[t][axis])) drawn = std::max<int64_t>(t - 100, 0);
    Pair low{}, high{};
    for (int64_t t = 0; t < drawn; ++t)
      for (int axis = 0; axis < 2; ++axis) {
        low[axis] = std::min(low[axis], points[t][axis]);
        high[axis] = std::max(high[axis], points[t][axis]);
      }
    const auto pixel = [&](int64_t t, int axis, int64_t side) {
      const double part = (points[t][axis] - low[axis]) / (high[axis] - low[axis]);
      const double place = part * static_cast<double>(side - 2 * image.padding) + static_cast<double>(image.padding);
      return std::isnan(place) ? 0 : static_cast<int64_t>(place);
    };
    for (int64_t t = 0; t < drawn; ++t) {
      const int64_t row = pixel(t, 1, image.height), column = pixel(t, 0, image.width);
      const uint8_t level = static_cast<uint8_t>(t % 128 + 1);
      for (int64_t i = 0; i < (patches ? 3 : 1); ++i)
        for (int64_t j = 0; j < (patches ? 3 : 1); ++j) {
          const int64_t y = row + i + patches, x = column + j + patches;
          if (y >= image.height || x >= image.width) continue;
          const bool lit = !patches || (mask[t] >> (8 - 3 * i - j) & 1);
          want[(image.height - 1 - y) * image.width + x] = lit ? level : 0;
        }
    }
    return want;
  }
};

void run_orbits(const OrbitImage& image, int64_t maps, double largest, bool patches) {
  Example first(image, maps, largest, 1), second(image, maps, largest, uint64_t{1} << 40);
  std::vector<uint32_t> canvas(image.canvas());
  Orbit orbits[] = {first.orbit(patches), second.orbit(patches)};
  FRACTALOPS_SELECT(rasterize_orbits<2>)(image, orbits, maps, canvas.data());
  const std::vector<uint8_t> together = first.out;
  check(first.out == first.expected(image, patches), "rasterize_orbit", "another image");
  check(second.out == second.expected(image, patches), "rasterize_orbit", "another second image");
  FRACTALOPS_SELECT(rasterize_orbits<1>)(image, orbits, maps, canvas.data());
  check(first.out == together, "rasterize_orbit", "another image alone");
}

}  // namespace

int main() {
  for (const int64_t points : {2, 3, 63, 256, 257, 258, 3000})
    for (const int64_t maps : {1, 2, 7})
      for (const double largest : {0.7, 1.3, 20.0, 1e5})
        for (const bool patches : {false, true}) {
          run_orbits({points, 13, 40, 6}, maps, largest, patches);
          run_orbits({points, 33, 3, 1}, maps, largest, patches);
        }
  return report();
}
