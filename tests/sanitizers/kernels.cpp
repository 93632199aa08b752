// The CPU kernels except the rasterizers, without torch, for AddressSanitizer and UndefinedBehaviorSanitizer. Every
// buffer has exactly the size that the op gives it, so that an access one element outside is found. Values and
// gradients are compared with plain loops in double. If one differs, the program prints it and exits with 1.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "../../csrc/cpu/affine_chain.h"
#include "../../csrc/cpu/draw_balanced_index.h"
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

#include "checks.h"

using namespace fractalops::cpu;

namespace {

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

  const auto split = [](int64_t tasks, double, const auto& work) {  // like two threads
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

// Compares the adjoint with differences of the matrix. The Python tests compare the matrix with the reference.
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

// Compares balanced drawing with the rule, which is counted in plain loops. Shares must add up to the unit.
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
    std::vector<std::vector<int64_t>> owed;  // D tables (N^d, N)
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
  return report();
}
