// Runs one call of an op's CPU kernels on one thread, without torch, so that callgrind can count its instructions. It
// does the same work as the op's own C++ file, in the same blocks. Only instructions inside `counted` are counted, so
// the creation of the inputs is not.
//
// Counts do not depend on the values: every point of the rasterizer is inside the image, where all windows have one
// size.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "../csrc/cpu/affine_chain.h"
#include "../csrc/cpu/partial_sums.h"
#include "../csrc/cpu/raster.h"

#define FRACTALOPS_NARROW_KERNEL
#define FRACTALOPS_KERNEL "affine_chain_kernel.h"
#include "../csrc/cpu/foreach_instruction_set.h"
#define FRACTALOPS_KERNEL "rbf_rasterize_kernel.h"
#include "../csrc/cpu/foreach_instruction_set.h"

#include "../csrc/cpu/affine_chain_pieces.h"

using namespace fractalops::cpu;

// callgrind finds this function by its plain name. The empty assembly at the end makes `run` return here. Without it,
// the last call could become a jump into `run`.
extern "C" __attribute__((noinline)) void counted(const std::function<void()>& run) {
  run();
  asm volatile("");
}

namespace {

struct Shape {
  int64_t sequences, points, maps, side;  // B, T of a sequence, N, W
  float bandwidth;
  int64_t rows;  // H
};

constexpr double cutoff = 1e-6;        // the op's default
constexpr int64_t task_points = 4096;  // as in csrc/cpu/rbf_rasterize.cpp
std::mt19937 generator(0);

std::vector<float> uniforms(int64_t count, double low, double high) {
  std::vector<float> values(count);
  for (float& value : values)
    value = static_cast<float>(low + (high - low) * static_cast<double>(generator()) / 4294967296.0);
  return values;
}

double total(const std::vector<float>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }

// Contracting maps, with points all over the image.
double run_affine_chain(const Shape& shape, bool is_backward) {
  const int64_t all_points = shape.sequences * shape.points;
  const std::vector<float> matrix = uniforms(shape.maps * 4, -0.45, 0.45);                         // (N, 2, 2)
  const std::vector<float> offset = uniforms(shape.maps * 2, 0, static_cast<double>(shape.side));  // (N, 2)
  const std::vector<float> start = uniforms(shape.sequences * 2, 0, 1);                            // (B, 2)
  const std::vector<float> grad = uniforms(all_points * 2, -1, 1);                                 // (B, T, 2)
  std::vector<uint8_t> index(all_points);                                                          // (B, T)
  for (uint8_t& map : index) map = static_cast<uint8_t>(generator() % shape.maps);
  const AffineChain<float, uint8_t> chain{matrix.data(), offset.data(),   index.data(), start.data(),
                                          shape.maps,    shape.sequences, shape.points};
  std::vector<float> points(all_points * 2);           // (B, T, 2)
  std::vector<float> grad_maps(shape.maps * 6);        // (N, 2, 3)
  std::vector<float> grad_start(shape.sequences * 2);  // (B, 2)

  const auto split = [](int64_t tasks, double, const auto& work) { work(0, tasks); };
  const auto forward = [&] {
    if (find_outside(index.data(), all_points, shape.maps) >= 0) std::abort();
    chain_forward<float, 2>(chain, points.data(), split);
  };
  const auto backward = [&] {
    if (find_outside(index.data(), all_points, shape.maps) >= 0) std::abort();
    std::vector<MapGradient<2>> maps(shape.maps);  // (N), zeros
    chain_backward<float, 2>(chain, {grad.data(), points.data(), maps.data(), grad_start.data()}, split);
    for (int64_t map = 0; map < shape.maps; ++map)
      for (int i = 0; i < 2; ++i) {
        for (int j = 0; j < 2; ++j) grad_maps[(map * 2 + i) * 3 + j] = static_cast<float>(maps[map].matrix[i][j]);
        grad_maps[(map * 2 + i) * 3 + 2] = static_cast<float>(maps[map].offset[i]);
      }
  };
  if (!is_backward) {
    counted(forward);
    return total(points);
  }
  forward();
  counted(backward);
  return total(grad_maps) + total(grad_start);
}

double run_rbf_rasterize(const Shape& shape, bool is_backward) {
  using Line = Raster<float>::Line;
  constexpr int64_t lanes_of_line = sizeof(Line) / sizeof(float);
  const int64_t side = shape.side, rows = shape.rows, pixels = rows * side, length = shape.points;
  std::vector<float> points = uniforms(shape.sequences * length * 2, 0, static_cast<double>(side - 1));  // (B, T, 2)
  if (rows != side)
    for (size_t i = 0; i < points.size(); i += 2)
      points[i] *= static_cast<float>(rows - 1) / static_cast<float>(side - 1);
  const std::vector<float> grad = uniforms(shape.sequences * pixels, -1, 1);  // (B, H, W)
  std::vector<float> image(shape.sequences * pixels);                         // (B, H, W)
  std::vector<float> grad_points(shape.sequences * length * 2);               // (B, T, 2)
  const Raster<float> raster(rows, side, 1, shape.bandwidth, cutoff, 0, rows);
  const auto memory = [](int64_t elements) { return std::vector<Line>(elements / lanes_of_line + 1); };
  std::vector<Line> canvas = memory(raster.canvas()), scratch = memory(raster.scratch());

  if (!is_backward) {
    counted([&] {
      float* drawn = canvas.data()->values;
      PartialSums<float> memory_of_sums;
      for (int64_t b = 0; b < shape.sequences; ++b) {
        PartialSums<float>* sums = memory_of_sums.prepare(raster, length);
        std::memset(drawn, 0, sizeof(float) * raster.canvas());
        FRACTALOPS_SELECT(rbf_rasterize_forward<float>)(raster, points.data() + b * length * 2, nullptr, length, drawn,
                                                        scratch.data()->values, nullptr, sums);
        copy_from_canvas(raster, drawn, sums ? sums->moved() : nullptr, image.data() + b * pixels);
      }
    });
    return total(image);
  }
  counted([&] {
    float* upstream = canvas.data()->values;
    std::memset(upstream, 0, sizeof(float) * raster.gradient());
    for (int64_t b = 0; b < shape.sequences; ++b) {
      copy_to_gradient(raster, grad.data() + b * pixels, upstream);
      for (int64_t first = 0; first < length; first += task_points)
        FRACTALOPS_SELECT(rbf_rasterize_backward<float>)(
            raster, points.data() + b * length * 2, nullptr, upstream, first, std::min(length, first + task_points),
            false, grad_points.data() + b * length * 2, nullptr, scratch.data()->values, nullptr);
    }
  });
  return total(grad_points);
}

}  // namespace

int main(int count, char** words) {
  const std::string op = count > 1 ? words[1] : "", direction = count > 2 ? words[2] : "";
  const bool is_chain = op == "affine_chain", is_backward = direction == "backward";
  if ((count != 8 && count != 9) || !(is_chain || op == "rbf_rasterize") || !(is_backward || direction == "forward")) {
    std::fputs("arguments: affine_chain|rbf_rasterize forward|backward SEQUENCES POINTS MAPS SIDE BANDWIDTH [ROWS]\n",
               stderr);
    return 2;
  }
  const Shape shape{std::atoll(words[3]),
                    std::atoll(words[4]),
                    std::atoll(words[5]),
                    std::atoll(words[6]),
                    static_cast<float>(std::atof(words[7])),
                    std::atoll(words[count == 9 ? 8 : 6])};
  if (std::min({shape.sequences, shape.points, shape.maps, shape.side, shape.rows}) < 1 || shape.maps > 256 ||
      !(shape.bandwidth > 0)) {
    std::fputs("all numbers must be above 0, and MAPS at most 256\n", stderr);
    return 2;
  }
  instruction_set();  // it reads the environment, whose size must not be part of a count
  std::printf("%g\n", is_chain ? run_affine_chain(shape, is_backward) : run_rbf_rasterize(shape, is_backward));
}
