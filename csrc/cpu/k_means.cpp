// k_means on the CPU: the op's registration and how its work is split. The rounds are in k_means_kernel.h. Shapes are
// checked in fractalops/ops/k_means.py and, for direct calls of the op, here.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "../tensors.h"
#include "split_tasks.h"

#define FRACTALOPS_NARROW_KERNEL
#define FRACTALOPS_KERNEL "k_means_kernel.h"
#include "foreach_instruction_set.h"

namespace fractalops::cpu {
namespace {

template <typename T>
void move_centers(const Tensor& places, int64_t rounds, Tensor& centers) {
  const int64_t count = places.size(1), clusters = centers.size(1);
  const T* positions = data<T>(places);  // (S, M, 2)
  T* moved = mutable_data<T>(centers);   // (S, N, 2)
  const double distances = static_cast<double>(rounds) * static_cast<double>(count * clusters);
  constexpr double distance_time = 0.3;  // nanoseconds
  split_tasks(places.size(0), distance_time * distances, [&](int64_t begin, int64_t end) {
    std::vector<T> sums(3 * clusters);         // (N, 3)
    std::vector<double> totals(3 * clusters);  // (N, 3)
    for (int64_t s = begin; s < end; ++s) {
      FRACTALOPS_SELECT(k_means<T>)
      (positions + s * count * 2, count, clusters, rounds, moved + s * clusters * 2, sums.data(), totals.data());
    }
  });
}

Tensor k_means(const Tensor& places_in, const Tensor& centers_in, int64_t rounds) {
  check_tensors("k_means", {{"places", places_in, "SM2"}, {"centers", centers_in, "SN2"}});
  STD_TORCH_CHECK(centers_in.size(1) > 0, "k_means: centers must not be empty");
  STD_TORCH_CHECK(rounds >= 0, "k_means: rounds must be at least 0, got ", rounds);
  const Tensor places = torch::stable::contiguous(places_in);                    // (S, M, 2)
  Tensor centers = torch::stable::clone(torch::stable::contiguous(centers_in));  // (S, N, 2)
  with_floating("k_means", "places", places, [&]<typename T>(T) { move_centers<T>(places, rounds, centers); });
  return centers;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fractalops, CPU, library) { library.impl(FRACTALOPS_OP(k_means)); }

}  // namespace fractalops::cpu
