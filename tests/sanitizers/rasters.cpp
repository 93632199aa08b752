// The rasterizers' CPU kernels without torch, for AddressSanitizer and UndefinedBehaviorSanitizer. As in kernels.cpp,
// buffers have the size that the op gives them, and values and gradients are compared with plain loops in double.
#include <cmath>
#include <cstdlib>
#include <limits>
#include <vector>

#include "../../csrc/cpu/partial_sums.h"
#include "../../csrc/cpu/raster.h"
#include "../../csrc/cpu/rasterize_points.h"

#define FRACTALOPS_KERNEL "rbf_rasterize_kernel.h"
#include "../../csrc/cpu/foreach_instruction_set.h"
#define FRACTALOPS_NARROW_KERNEL
#define FRACTALOPS_KERNEL "rasterize_points_kernel.h"
#include "../../csrc/cpu/foreach_instruction_set.h"

#include "checks.h"

using namespace fractalops::cpu;

namespace {

// Memory for `elements` elements, aligned to cache lines and rounded up to whole ones.
template <typename T>
class Aligned {
 public:
  Aligned(int64_t elements, T value) {
    memory_ = static_cast<T*>(std::aligned_alloc(64, (elements * sizeof(T) + 63) / 64 * 64));
    std::fill_n(memory_, (elements * sizeof(T) + 63) / 64 * 64 / sizeof(T), value);
  }
  ~Aligned() { std::free(memory_); }
  Aligned(const Aligned&) = delete;
  T* data() { return memory_; }

 private:
  T* memory_;
};

template <typename T>
void run_raster(int64_t height, int64_t width, int64_t channels, int64_t length, double bandwidth, double cutoff,
                int64_t bands, bool masked) {
  const bool weighted = channels > 0;
  const int64_t planes = std::max<int64_t>(channels, 1);
  std::vector<T> points(length * 2);
  for (int64_t t = 0; t < length; ++t) {
    points[2 * t] = static_cast<T>(uniform(-0.3, 1.3) * height);
    points[2 * t + 1] = static_cast<T>(uniform(-0.3, 1.3) * width);
  }
  const T infinity = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  const T odd[][2] = {{nan, 1},
                      {1, nan},
                      {infinity, 1},
                      {1, -infinity},
                      {T(1e30), 1},
                      {1, T(-1e30)},
                      {T(0), T(0)},
                      {T(height - 1), T(width - 1)},
                      {T(-0.5), T(width) - T(0.5)},
                      {-infinity, infinity}};
  for (size_t i = 0; i < std::size(odd) && static_cast<int64_t>(i) < length; ++i)
    points[2 * i] = odd[i][0], points[2 * i + 1] = odd[i][1];
  auto weight = uniforms<T>(length * channels, -1, 1);
  for (int64_t i = 0; i < std::min<int64_t>(length, 4) * channels; ++i) weight[i] = nan;  // of points out of reach
  const T* weights = weighted ? weight.data() : nullptr;
  const T tau = static_cast<T>(bandwidth);

  std::vector<T> image(planes * height * width, nan);
  for (int64_t band = 0; band < bands; ++band) {
    const Raster<T> raster(height, width, planes, tau, cutoff, height * band / bands, height * (band + 1) / bands,
                           masked);
    if (raster.band() == 0) continue;
    Aligned<T> canvas(raster.canvas(), 0), scratch(raster.scratch(), nan);
    PartialSums<T> memory;
    PartialSums<T>* sums = memory.prepare(raster, length);
    FRACTALOPS_SELECT(rbf_rasterize_forward<T>)
    (raster, points.data(), weights, length, canvas.data(), scratch.data(), nullptr, sums);
    copy_from_canvas(raster, canvas.data(), sums ? sums->moved() : nullptr, image.data());
  }
  const Raster<T> whole(height, width, planes, tau, cutoff, 0, height, masked);
  Aligned<T> canvas(whole.canvas(), 0), scratch(whole.scratch(), nan);
  PartialSums<T> memory;
  PartialSums<T>* sums = memory.prepare(whole, length);
  Aligned<T> kept(sums ? 0 : whole.kept(length), nan);
  T* tables = sums ? nullptr : kept.data();
  FRACTALOPS_SELECT(rbf_rasterize_forward<T>)
  (whole, points.data(), weights, length, canvas.data(), scratch.data(), tables, sums);
  std::vector<T> in_one(image.size(), nan);
  copy_from_canvas(whole, canvas.data(), sums ? sums->moved() : nullptr, in_one.data());
  check(in_one == image, "image", "bands or kept tables change bits");

  const auto grad = uniforms<T>(planes * height * width, -1, 1);
  Aligned<T> padded(whole.gradient(), 0);
  copy_to_gradient(whole, grad.data(), padded.data());
  std::vector<T> grad_points(length * 2, nan), grad_weight(length * planes, nan);
  double grad_bandwidth = 0;
  const int64_t middle = length / 2;
  const auto differentiate = [&](int64_t begin, int64_t end, bool needs_bandwidth, T* from) {
    return FRACTALOPS_SELECT(rbf_rasterize_backward<T>)(whole, points.data(), weights, padded.data(), begin, end,
                                                        needs_bandwidth, grad_points.data(), grad_weight.data(),
                                                        scratch.data(), from);
  };
  differentiate(0, length, false, tables);
  const std::vector<T> from_kept = grad_points, weights_from_kept = grad_weight;
  for (const bool needs_bandwidth : {true, false}) {
    std::fill(grad_points.begin(), grad_points.end(), nan);
    std::fill(grad_weight.begin(), grad_weight.end(), nan);
    const double both =
        differentiate(0, middle, needs_bandwidth, nullptr) + differentiate(middle, length, needs_bandwidth, nullptr);
    if (needs_bandwidth) grad_bandwidth = both;
  }
  check(from_kept == grad_points && weights_from_kept == grad_weight, "gradients", "kept tables change bits");

  std::vector<double> want_image(image.size()), want_points(points.size()), want_weight(grad_weight.size()),
      want_bandwidth(1);
  for (int64_t t = 0; t < length; ++t) {
    const double x = points[2 * t], y = points[2 * t + 1];
    if (!std::isfinite(x) || !std::isfinite(y)) continue;
    const double row = std::nearbyint(x), column = std::nearbyint(y);
    for (int64_t i = 0; i < height; ++i) {
      if (std::abs(i - row) > whole.radius) continue;
      for (int64_t j = 0; j < width; ++j) {
        if (std::abs(j - column) > whole.radius) continue;
        const double squares = (x - i) * (x - i) + (y - j) * (y - j), value = std::exp(-squares / tau);
        if (value == 0) continue;
        for (int64_t c = 0; c < planes; ++c) {
          const double w = weighted ? double(weight[t * channels + c]) : 1.0, g = grad[(c * height + i) * width + j];
          want_image[(c * height + i) * width + j] += w * value;
          want_points[2 * t] += -2 / double(tau) * w * g * value * (x - i);
          want_points[2 * t + 1] += -2 / double(tau) * w * g * value * (y - j);
          want_weight[t * planes + c] += g * value;
          want_bandwidth[0] += w * g * value * squares / (double(tau) * tau);
        }
      }
    }
  }
  compare("image", image, want_image);
  compare("grad_points", grad_points, want_points);
  compare("grad_weight", grad_weight, want_weight);
  compare("grad_bandwidth", std::vector<T>{static_cast<T>(grad_bandwidth)}, want_bandwidth);
}

template <typename T, typename Counter, typename Count>
void run_points(int64_t height, int64_t width, int64_t patch_height, int64_t patch_width, int64_t length) {
  const PixelGrid grid(height, width, patch_height, patch_width);
  std::vector<T> points(length * 2);
  for (int64_t t = 0; t < length; ++t) {
    points[2 * t] = static_cast<T>(uniform(-8, height + 8));
    points[2 * t + 1] = static_cast<T>(uniform(-8, width + 8));
    if (t % 3 == 0) points[2 * t] = std::floor(points[2 * t]) + T(0.5);
  }
  const T infinity = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  const T odd[] = {nan, -nan, infinity, -infinity, T(1e30), T(-1e30), T(1 << 23), T(-(1 << 23))};
  for (size_t i = 0; i < 2 * std::size(odd) && static_cast<int64_t>(i) < length; ++i)
    points[2 * i + i % 2] = odd[i / 2];
  std::vector<uint8_t> patch(patch_height * patch_width);
  for (uint8_t& mark : patch) mark = generator() % 2;
  const std::vector<int64_t> taps = grid.taps(patch.data());

  std::vector<Count> image(height * width, 7), canvas(grid.canvas(), 7);
  FRACTALOPS_SELECT(rasterize_image<T, Counter, Count>)(grid, points.data(), length, taps.data(), taps.size(),
                                                        image.data(),
                                                        grid.is_image() && !taps.empty() ? nullptr : canvas.data());

  std::vector<double> want(height * width);
  for (int64_t t = 0; t < length; ++t) {
    const double x = points[2 * t], y = points[2 * t + 1];
    if (!(std::abs(x) < 1e6 && std::abs(y) < 1e6)) continue;
    for (int64_t k = 0; k < patch_height * patch_width; ++k) {
      const int64_t i = static_cast<int64_t>(std::nearbyint(x)) + k / patch_width - patch_height / 2;
      const int64_t j = static_cast<int64_t>(std::nearbyint(y)) + k % patch_width - patch_width / 2;
      if (patch[k] && i >= 0 && i < height && j >= 0 && j < width) want[i * width + j] += 1;
    }
  }
  if (sizeof(Count) == 1)
    for (double& count : want) count = count > 0;
  compare("counts", std::vector<double>(image.begin(), image.end()), want);
}

template <typename T>
void run_rasters() {
  const int64_t sizes[][2] = {{1, 1}, {1, 7}, {7, 1}, {9, 9}, {32, 32}, {30, 17}, {17, 65}};
  for (const auto& size : sizes)
    for (int64_t channels : {0, 1, 3})
      for (double bandwidth : {0.01, 0.25, 1.0, 25.0, 1e4})
        for (double cutoff : {1e-6, 1e-2, 0.0})
          for (int64_t length : {1, 7, 63, 300})
            run_raster<T>(size[0], size[1], channels, length, bandwidth, cutoff, 1 + length % 3, length == 7);
  // Images with sums that are split.
  for (int64_t channels : {0, 2}) {
    run_raster<T>(20, 45, channels, 9000, 1.0, 1e-6, 3, false);
    run_raster<T>(7, 9, channels, 9000, 25.0, 1e-6, 2, true);
  }
  // Polynomials, for the bandwidths that use them, and exponentials for smaller ones.
  for (double bandwidth : {0.001, 0.05, 0.1, 0.3, 0.499, 0.5, 0.7, 0.999, 1.0, 1.5, 2.0, 4.0, 10.0, 30.0, 100.0})
    for (double cutoff : {1e-6, 1e-12}) run_raster<T>(90, 101, 1, 200, bandwidth, cutoff, 3, false);
}

template <typename T>
void run_counts() {
  const int64_t sizes[][2] = {{1, 1}, {1, 70}, {70, 1}, {9, 9}, {32, 32}, {30, 17}, {17, 65}};
  const int64_t patches[][2] = {{1, 1}, {1, 1}, {3, 3}, {1, 5}, {7, 1}, {15, 15}};
  for (const auto& size : sizes)
    for (const auto& patch : patches)
      for (int64_t length : {1, 63, 64, 300}) {
        run_points<T, uint32_t, int32_t>(size[0], size[1], patch[0], patch[1], length);
        run_points<T, uint32_t, uint8_t>(size[0], size[1], patch[0], patch[1], length);
        run_points<T, uint64_t, int32_t>(size[0], size[1], patch[0], patch[1], length);
      }
}

}  // namespace

int main() {
  run_rasters<float>();
  run_rasters<double>();
  run_counts<float>();
  run_counts<double>();
  return report();
}
