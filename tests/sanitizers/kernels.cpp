// The CPU kernels without torch, for AddressSanitizer and UndefinedBehaviorSanitizer: every buffer has exactly the size
// that the op gives it, so that a load or store one element out is caught, and values and gradients are compared with
// plain loops in double. Exits with 1, and says where, when one differs.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "../../csrc/cpu/affine_chain.h"
#include "../../csrc/cpu/partial_sums.h"
#include "../../csrc/cpu/raster.h"
#include "../../csrc/cpu/draw_balanced_index.h"
#include "../../csrc/cpu/rasterize_points.h"
#include "../../csrc/svd_matrix.h"

#define FRACTALOPS_NARROW_KERNEL
#define FRACTALOPS_KERNEL "affine_chain_kernel.h"
#include "../../csrc/cpu/foreach_instruction_set.h"
#define FRACTALOPS_KERNEL "draw_balanced_index_kernel.h"
#include "../../csrc/cpu/foreach_instruction_set.h"
#define FRACTALOPS_NARROW_KERNEL
#define FRACTALOPS_KERNEL "k_means_kernel.h"
#include "../../csrc/cpu/foreach_instruction_set.h"
#include "../../csrc/cpu/affine_chain_pieces.h"
#define FRACTALOPS_KERNEL "rbf_rasterize_kernel.h"
#include "../../csrc/cpu/foreach_instruction_set.h"
#define FRACTALOPS_NARROW_KERNEL
#define FRACTALOPS_KERNEL "rasterize_points_kernel.h"
#include "../../csrc/cpu/foreach_instruction_set.h"

#include "checks.h"

using namespace fractalops::cpu;

namespace {

template <typename T>
std::vector<T> uniforms(size_t count, double low, double high) {
  std::vector<T> values(count);
  for (T& value : values) value = static_cast<T>(uniform(low, high));
  return values;
}

// Values agree within a tolerance relative to the largest one expected.
template <typename T>
void compare(const char* what, const std::vector<T>& got, const std::vector<double>& wanted) {
  const double tolerance = sizeof(T) == 4 ? 2e-5 : 1e-12;
  double scale = 1;
  for (double value : wanted) scale = std::max(scale, std::abs(value));
  for (size_t i = 0; i < wanted.size(); ++i)
    if (!(std::abs(got[i] - wanted[i]) <= tolerance * scale)) {
      std::printf("%s[%zu]: got %g, wanted %g\n", what, i, static_cast<double>(got[i]), wanted[i]);
      ++failures;
      return;
    }
}

template <typename T, int D, typename Index>
void run_chain(int64_t maps, int64_t sequences, int64_t length) {
  const auto matrix = uniforms<T>(maps * D * D, -0.6, 0.6), offset = uniforms<T>(maps * D, -1, 1);
  const auto start = uniforms<T>(sequences * D, -1, 1), grad = uniforms<T>(sequences * length * D, -1, 1);
  std::vector<Index> index(sequences * length);
  for (Index& map : index) map = static_cast<Index>(generator() % maps);
  index.back() = static_cast<Index>(maps - 1);
  const AffineChain<T, Index> chain{matrix.data(), offset.data(), index.data(), start.data(), maps, sequences, length};
  check(find_outside(index.data(), sequences * length, maps) == -1, "find_outside", "found one");
  check(find_outside(index.data(), sequences * length, maps - 1) != -1, "find_outside", "found none");

  const auto split = [](int64_t tasks, double, const auto& work) {  // as by two threads
    work(0, tasks / 2);
    work(tasks / 2, tasks);
  };
  std::vector<T> points(sequences * length * D), grad_start(sequences * D),
      weight = uniforms<T>(sequences * length, 0, 1);
  chain_forward<T, D>(chain, points.data(), split);
  std::vector<MapGradient<D>> maps_only(maps), sums(maps);
  chain_backward<T, D>(chain, {grad.data(), points.data(), maps_only.data(), grad_start.data()}, split);
  const ChainGradients<T, D> weighted{.grad = grad.data(),
                                      .points = points.data(),
                                      .maps = sums.data(),
                                      .start = grad_start.data(),
                                      .weight = weight.data()};
  chain_backward<T, D>(chain, weighted, split);
  std::vector<T> grad_maps;  // (N, D, D + 1)
  std::vector<double> map_weights, want_weights(maps);
  for (const MapGradient<D>& map : sums) {
    for (int i = 0; i < D; ++i) {
      for (int j = 0; j < D; ++j) grad_maps.push_back(static_cast<T>(map.matrix[i][j]));
      grad_maps.push_back(static_cast<T>(map.offset[i]));
    }
    map_weights.push_back(map.weight);
    const MapGradient<D>& other = maps_only[&map - sums.data()];
    check(std::equal(map.matrix[0], map.matrix[0] + D * D, other.matrix[0]) && other.weight == 0, "grad_maps", "two");
  }
  for (size_t step = 0; step < weight.size(); ++step) want_weights[index[step]] += weight[step];
  compare("map_weights", map_weights, want_weights);

  std::vector<double> want_points(points.size()), want_maps(maps * D * (D + 1)), want_start(grad_start.size());
  for (int64_t b = 0; b < sequences; ++b) {
    double v[D], h[D] = {};
    for (int i = 0; i < D; ++i) v[i] = start[b * D + i];
    for (int64_t t = 0; t < length; ++t) {
      const int64_t map = index[b * length + t];
      double next[D];
      for (int i = 0; i < D; ++i) {
        next[i] = offset[map * D + i];
        for (int j = 0; j < D; ++j) next[i] += double(matrix[(map * D + i) * D + j]) * v[j];
      }
      for (int i = 0; i < D; ++i) want_points[(b * length + t) * D + i] = v[i] = next[i];
    }
    for (int64_t t = length - 1; t >= 0; --t) {
      const int64_t map = index[b * length + t];
      double next[D] = {};
      for (int i = 0; i < D; ++i) {
        h[i] += grad[(b * length + t) * D + i];
        for (int j = 0; j < D; ++j) {
          want_maps[(map * D + i) * (D + 1) + j] +=
              h[i] * (t > 0 ? want_points[(b * length + t - 1) * D + j] : double(start[b * D + j]));
          next[j] += double(matrix[(map * D + i) * D + j]) * h[i];
        }
        want_maps[(map * D + i) * (D + 1) + D] += h[i];
      }
      for (int i = 0; i < D; ++i) h[i] = next[i];
    }
    for (int i = 0; i < D; ++i) want_start[b * D + i] = h[i];
  }
  compare("points", points, want_points);
  compare("grad_maps", grad_maps, want_maps);
  compare("grad_start", grad_start, want_start);
}

// Memory of exactly so many elements that starts where a cache line does.
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

// The adjoint against differences of the matrix itself, whose formula the Python tests hold to the reference.
template <typename T>
void run_svd(bool clamped) {
  for (int repeat = 0; repeat < 20; ++repeat) {
    std::vector<T> p = uniforms<T>(6, 0.1, 0.9), matrix(4), grad = uniforms<T>(4, -1, 1), grad_p(6);
    fractalops::svd_matrix(p.data(), clamped, matrix.data());
    fractalops::svd_matrix_adjoint(p.data(), clamped, grad.data(), grad_p.data());
    std::vector<double> want(6);
    for (int k = 0; k < 4; ++k) {
      std::vector<double> up(p.begin(), p.end()), down = up, high(4), low(4);
      up[k] += 1e-5;
      down[k] -= 1e-5;
      fractalops::svd_matrix(up.data(), clamped, high.data());
      fractalops::svd_matrix(down.data(), clamped, low.data());
      for (int i = 0; i < 4; ++i) want[k] += grad[i] * (high[i] - low[i]) / 2e-5;
    }
    for (int i = 0; i < 4; ++i) want[4 + i % 2] += double(grad[i]) * matrix[i];  // the signs are all +1
    compare("grad_svd", std::vector<float>(grad_p.begin(), grad_p.end()), want);
  }
}

template <typename T, typename Index>
void run_search(int64_t count, int64_t length) {
  const std::vector<double> weight = uniforms<double>(count + 1, 0, 1);
  const std::vector<T> numbers = uniforms<T>(length, 0, 1);
  std::vector<T> bounds(count);
  cumulative_bounds(weight.data(), count + 1, 1e-3, bounds.data());
  check(std::is_sorted(bounds.begin(), bounds.end()), "bounds", "not sorted");
  std::vector<Index> index(length);
  count_bounds(bounds.data(), count, numbers.data(), length, index.data());
  std::vector<double> want(length);
  for (int64_t i = 0; i < length; ++i)
    for (T bound : bounds) want[i] += bound <= numbers[i];
  compare("index", std::vector<double>(index.begin(), index.end()), want);
}

// Drawn balanced: as the rule says, counted in plain loops, from shares that add up to the unit.
template <typename T, typename Index>
void run_balanced(int64_t maps, int64_t points, int64_t sequences) {
  const std::vector<double> weight = uniforms<double>(maps, 0, 1);
  std::vector<double> bounds(maps - 1);
  std::vector<int32_t> share(balanced_stride(maps), -1);
  balanced_shares(weight.data(), maps, 1e-3, bounds.data(), share.data());
  check(std::accumulate(share.begin(), share.end(), int64_t(0)) == fractalops::balanced_unit, "shares", "not 1");
  std::vector<T> numbers = uniforms<T>(sequences * points, 0, 1);
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (numbers[i] >= 1 || i % 7 == 0) numbers[i] = std::nextafter(T(1), T(0));
    if (i % 7 == 3) numbers[i] = 0;
    if (i % 7 == 5) numbers[i] *= T(1e-3);
  }
  BalancedCounts counts(maps, points);
  std::vector<Index> index(sequences * points);
  for (int repeat = 0; repeat < 2; ++repeat) FRACTALOPS_SELECT(draw_balanced_sequences<T, Index>)
  (share.data(), counts, numbers.data(), sequences, index.data());

  std::vector<double> want(index.size());
  for (int64_t k = 0; k < sequences; ++k) {
    std::vector<std::vector<int64_t>> owed;  // (D)(N^d, N)
    for (int64_t d = 0, contexts = maps; d < counts.depth; ++d, contexts *= maps) owed.emplace_back(contexts * maps);
    std::vector<int64_t> context(counts.depth), reached(maps);
    for (int64_t t = 0; t < points; ++t) {
      int64_t total = 0, drawn = 0;
      for (int64_t n = 0; n < maps; ++n) {
        int64_t due = share[n];
        for (int d = 0; d < counts.depth; ++d) due += owed[d][context[d] * maps + n];
        reached[n] = total += std::max<int64_t>(due, 0);
      }
      const double wanted = std::floor(static_cast<double>(numbers[k * points + t]) * total);
      check(wanted < total, "balanced index", "the number is too large");
      while (reached[drawn] <= wanted) ++drawn;
      for (int d = counts.depth - 1; d >= 0; --d) {
        for (int64_t n = 0; n < maps; ++n) owed[d][context[d] * maps + n] += share[n];
        owed[d][context[d] * maps + drawn] -= fractalops::balanced_unit;
        context[d] = (d > 0 ? context[d - 1] * maps : 0) + drawn;
      }
      want[k * points + t] = drawn;
    }
  }
  check(std::equal(want.begin(), want.end(), index.begin()), "balanced index", "another one");
}

template <typename T>
void run_means(int64_t places, int64_t clusters) {
  const std::vector<T> positions = uniforms<T>(places * 2, 0, 1), first = uniforms<T>(clusters * 2, 0, 1);
  std::vector<T> centers = first, sums(clusters * 3, std::numeric_limits<T>::quiet_NaN());
  std::vector<double> totals(clusters * 3, std::numeric_limits<double>::quiet_NaN());
  FRACTALOPS_SELECT(k_means<T>)(positions.data(), places, clusters, 1, centers.data(), sums.data(), totals.data());
  std::vector<double> want(clusters * 2), count(clusters);
  for (int64_t m = 0; m < places; ++m) {
    int64_t nearest = 0;
    const auto distance = [&](int64_t n) {
      return std::hypot(double(positions[2 * m]) - first[2 * n], double(positions[2 * m + 1]) - first[2 * n + 1]);
    };
    for (int64_t n = 1; n < clusters; ++n)
      if (distance(n) < distance(nearest)) nearest = n;
    count[nearest] += 1;
    for (int axis = 0; axis < 2; ++axis) want[2 * nearest + axis] += positions[2 * m + axis];
  }
  for (int64_t i = 0; i < 2 * clusters; ++i) want[i] = count[i / 2] > 0 ? want[i] / count[i / 2] : first[i];
  compare("centers", centers, want);
}

template <typename T, int D>
void run_chains() {
  for (int64_t rest : {0, 100}) run_chain<T, D, uint8_t>(3, 2, cut_length + rest);  // in pieces
  for (int64_t maps : {1, 10, 250})
    for (int64_t sequences : {1, 3, 4, 9, 33})
      for (int64_t length : {1, 2, 3, 63}) {
        run_chain<T, D, uint8_t>(maps, sequences, length);
        run_chain<T, D, int32_t>(maps, sequences, length);
        run_chain<T, D, int64_t>(maps, sequences, length);
      }
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
  // Sums that are split.
  for (int64_t channels : {0, 2}) {
    run_raster<T>(20, 45, channels, 9000, 1.0, 1e-6, 3, false);
    run_raster<T>(7, 9, channels, 9000, 25.0, 1e-6, 2, true);
  }
  // The polynomials over the bandwidths that take them, and exponentials below.
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
  for (int64_t maps : {1, 2, 3, 5, 8, 10, 16, 17, 25, 300})
    for (int64_t points : {1, 3, 63, 700}) {
      run_balanced<float, uint8_t>(std::min<int64_t>(maps, 256), points, 7);
      run_balanced<double, int32_t>(maps, points, 3);
    }
  run_chains<float, 2>();
  run_chains<float, 3>();
  run_chains<double, 2>();
  run_chains<double, 3>();
  for (bool clamped : {false, true}) run_svd<float>(clamped), run_svd<double>(clamped);
  for (int64_t count : {0, 1, 9, 32, 33, 255})
    run_search<float, uint8_t>(count, 100), run_search<double, int32_t>(count, 63);
  for (int64_t places : {0, 1, 3, 16, 63, 300, 9000})
    for (int64_t clusters : {1, 3, 10, 63}) run_means<float>(places, clusters), run_means<double>(places, clusters);
  run_rasters<float>();
  run_rasters<double>();
  run_counts<float>();
  run_counts<double>();
  return report();
}
