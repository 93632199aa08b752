// rasterize_points on the CPU: the op's registration and how its work is split. The counting is in
// rasterize_points_kernel.h. Shapes are checked in fractalops/ops/rasterize_points.py and, for direct calls of the op,
// here.
#include "rasterize_points.h"

#include <limits>

#include "../memory.h"
#include "../tensors.h"
#include "split_tasks.h"

#define FRACTALOPS_NARROW_KERNEL
#define FRACTALOPS_KERNEL "rasterize_points_kernel.h"
#include "foreach_instruction_set.h"

namespace fractalops::cpu {
namespace {

template <typename T, typename Counter, typename Count>
void draw_images(const PixelGrid& grid, const Tensor& points, const Tensor& patch, Tensor& image) {
  const int64_t length = points.size(1);
  const T* positions = data<T>(points);           // (B, T, 2)
  const uint8_t* patches = data<uint8_t>(patch);  // (B, patch height, patch width)
  Count* out = mutable_data<Count>(image);        // (B, H, W)
  // A point takes one nanosecond, and 32 pixels take about as much.
  const double image_time = static_cast<double>(length + grid.rows * grid.columns / 32);
  split_tasks(image.size(0), image_time, [&](int64_t begin, int64_t end) {
    const auto canvas = scratch<Count>(grid.canvas());
    for (int64_t b = begin; b < end; ++b) {
      const std::vector<int64_t> taps = grid.taps(patches + b * grid.patch_height * grid.patch_width);
      FRACTALOPS_SELECT(rasterize_image<T, Counter, Count>)(grid, positions + b * length * 2, length, taps.data(),
                                                            taps.size(), out + b * grid.height * grid.width,
                                                            grid.is_image() && !taps.empty() ? nullptr : canvas.get());
    }
  });
}

template <typename T, typename Count>
void draw(const Tensor& points, const Tensor& patch, Tensor& image) {
  const PixelGrid grid(image.size(1), image.size(2), patch.size(1), patch.size(2));
  if (grid.canvas() <= outside<uint32_t>)
    draw_images<T, uint32_t, Count>(grid, points, patch, image);
  else
    draw_images<T, uint64_t, Count>(grid, points, patch, image);
}

Tensor rasterize_points(const Tensor& points_in, const Tensor& patch_in, int64_t height, int64_t width, bool binary) {
  check_tensors("rasterize_points", {{"points", points_in, "BT2"}, {"patch", patch_in, "BHW", only<uint8_t>("uint8")}});
  const Tensor points = torch::stable::contiguous(points_in);  // (B, T, 2)
  const Tensor patch = torch::stable::contiguous(patch_in);    // (B, patch height, patch width); 0 is not marked
  for (const int64_t side : {patch.size(1), patch.size(2)})
    STD_TORCH_CHECK(side % 2 == 1 && side <= PixelGrid::largest_patch,
                    "rasterize_points: patch must have odd sides up to ", PixelGrid::largest_patch, ", got ", side);
  for (const int64_t side : {height, width})
    STD_TORCH_CHECK(side >= 1 && side < 1 << 22, "rasterize_points: size must lie in [1, 2^22), got ", side);
  STD_TORCH_CHECK(points.size(1) <= std::numeric_limits<int32_t>::max(),
                  "rasterize_points: points must be at most 2^31 - 1 per image, got ", points.size(1));
  Tensor image = allocate(points, {points.size(0), height, width}, binary ? ScalarType::Byte : ScalarType::Int);
  with_floating("rasterize_points", "points", points, [&]<typename T>(T) {
    binary ? draw<T, uint8_t>(points, patch, image) : draw<T, int32_t>(points, patch, image);
  });
  return image;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fractalops, CPU, library) { library.impl(FRACTALOPS_OP(rasterize_points)); }

}  // namespace fractalops::cpu
