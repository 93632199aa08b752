// rasterize_orbit on the CPU: the op's registration and how its work is split. The drawing is in
// rasterize_orbit_kernel.h. Shapes are checked in fractalops/ops/rasterize_orbit.py and, for direct calls of the op,
// here. setup.py compiles this file without contraction of products and sums.
#include "rasterize_orbit.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "../memory.h"
#include "../tensors.h"
#include "split_tasks.h"

#define FRACTALOPS_NARROW_KERNEL
#define FRACTALOPS_KERNEL "rasterize_orbit_kernel.h"
#include "foreach_instruction_set.h"

namespace fractalops::cpu {
namespace {

constexpr int64_t side_by_side = 2;  // orbits that are computed together, to hide the latency of each one's steps

void draw(const OrbitImage& image, const Tensor& matrix, const Tensor& offset, const Tensor& probabilities,
          const Tensor& uniform, const std::optional<Tensor>& mask, Tensor& levels) {
  const int64_t maps = offset.size(1);
  const double *matrices = data<double>(matrix), *offsets = data<double>(offset);         // (B, N, 2, 2), (B, N, 2)
  const double *weights = data<double>(probabilities), *numbers = data<double>(uniform);  // (B, N), (B, T - 1)
  const int64_t uniform_step = uniform.stride(0);                // 0 if all images have the same numbers
  const int16_t* masks = mask ? data<int16_t>(*mask) : nullptr;  // (B, T)
  uint8_t* out = mutable_data<uint8_t>(levels);                  // (B, H, W)
  constexpr double point_time = 8;                               // nanoseconds
  split_tasks(levels.size(0), point_time * static_cast<double>(image.points), [&](int64_t begin, int64_t end) {
    std::vector<OrbitMap> table(side_by_side * maps);                                       // (side_by_side, N)
    std::vector<double> bounds(side_by_side * maps);                                        // (side_by_side, N)
    const auto points = scratch<Pair>(std::min(side_by_side, end - begin) * image.points);  // (side_by_side, T)
    const auto canvas = scratch<uint32_t>(image.canvas());                                  // canvas()
    Orbit orbits[side_by_side];
    const auto prepare = [&](int64_t b, int64_t k) {
      double total = 0;
      for (int64_t n = 0; n < maps; ++n) {
        const double* row = matrices + (b * maps + n) * 4;   // (2, 2)
        const double* shift = offsets + (b * maps + n) * 2;  // (2)
        table[k * maps + n] = OrbitMap{Pair{row[0], row[2]}, Pair{row[1], row[3]}, Pair{shift[0], shift[1]}};
        bounds[k * maps + n] = total += weights[b * maps + n];
      }
      orbits[k] = Orbit{table.data() + k * maps,
                        bounds.data() + k * maps,
                        numbers + b * uniform_step,
                        masks ? masks + b * image.points : nullptr,
                        points.get() + k * image.points,
                        out + b * image.height * image.width,
                        Pair{},
                        Pair{}};
    };
    for (int64_t b = begin; b < end; b += side_by_side) {
      const int64_t count = std::min(side_by_side, end - b);
      for (int64_t k = 0; k < count; ++k) prepare(b + k, k);
      if (count == 1)
        FRACTALOPS_SELECT(rasterize_orbits<1>)(image, orbits, maps, canvas.get());
      else
        FRACTALOPS_SELECT(rasterize_orbits<side_by_side>)(image, orbits, maps, canvas.get());
    }
  });
}

Tensor rasterize_orbit(const Tensor& matrix_in, const Tensor& offset_in, const Tensor& probabilities_in,
                       const Tensor& uniform_in, const std::optional<Tensor>& mask_in, int64_t height, int64_t width,
                       int64_t padding) {
  const Dtypes float64 = only<double>("float64");
  check_tensors("rasterize_orbit", {{"matrix", matrix_in, "BN22", float64},
                                    {"offset", offset_in, "BN2", float64},
                                    {"probabilities", probabilities_in, "BN", float64},
                                    {"uniform", uniform_in, "BU", float64},
                                    {"mask", mask_in, "BT", only<int16_t>("int16")}});
  const Tensor matrix = torch::stable::contiguous(matrix_in);                // (B, N, 2, 2)
  const Tensor offset = torch::stable::contiguous(offset_in);                // (B, N, 2)
  const Tensor probabilities = torch::stable::contiguous(probabilities_in);  // (B, N)
  // (B, T - 1). Rows that share their memory are not copied.
  const Tensor uniform = uniform_in.stride(1) == 1 ? uniform_in : torch::stable::contiguous(uniform_in);
  const std::optional<Tensor> mask = contiguous(mask_in);  // (B, T)
  const int64_t images = offset.size(0), maps = offset.size(1);
  const OrbitImage image{uniform.size(1) + 1, height, width, padding};
  STD_TORCH_CHECK(!mask || mask->size(1) == image.points, "rasterize_orbit: mask must have ", image.points,
                  " values for each image, got ", mask->size(1));
  STD_TORCH_CHECK(maps >= 1, "rasterize_orbit: offset must have at least one map");
  STD_TORCH_CHECK(image.points <= OrbitImage::most_points, "rasterize_orbit: points must be at most ",
                  OrbitImage::most_points, " per image, got ", image.points);
  STD_TORCH_CHECK(padding >= 1 && padding <= (std::min(height, width) - 1) / 2 && std::max(height, width) < 1 << 16,
                  "rasterize_orbit: padding must be at least 1, and size must lie in [2 padding + 1, 2^16)");
  Tensor levels = allocate(matrix, {images, height, width}, ScalarType::Byte);
  draw(image, matrix, offset, probabilities, uniform, mask, levels);
  return levels;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fractalops, CPU, library) { library.impl(FRACTALOPS_OP(rasterize_orbit)); }

}  // namespace fractalops::cpu
