// Lloyd's algorithm for k-means in the plane. This file is included once per instruction set, so it has no include
// guard. It does not include torch, so that the sanitizer tests can compile it separately.
//
// Ownership: a lane owns one place, the distance to the nearest center so far, and that center's number. A cluster's
// places are added in their order, so that the sum does not depend on the width of the vectors. The places of a run are
// added in T. The runs are added in double, because their rounding would be noticeable in T.

namespace fractalops::cpu::FRACTALOPS_ISA {

// Moves the centers `rounds` times to the means of the places that are nearest to them. If several centers are equally
// near, the first one is taken. A center without places does not move.
template <typename T>
void k_means(const T* places /* (M, 2) */, int64_t count, int64_t clusters, int64_t rounds, T* centers /* (N, 2) */,
             T* sums /* (N, 3), scratch: sums of a cluster's places in a run, and their number */,
             double* totals /* (N, 3), scratch: the same for all runs */) {
  constexpr int lanes = 128 / sizeof(T);  // enough chains of comparisons to hide their latency
  constexpr int64_t run = 4096;
  using Number = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  const auto add_run = [&] {
    for (int64_t i = 0; i < 3 * clusters; ++i) totals[i] += static_cast<double>(sums[i]), sums[i] = 0;
  };
  for (int64_t round = 0; round < rounds; ++round) {
    std::fill_n(sums, 3 * clusters, T(0));
    std::fill_n(totals, 3 * clusters, 0.0);
    for (int64_t first = 0; first < count; first += lanes) {
      const T* block = places + 2 * first;  // (filled, 2)
      const int filled = static_cast<int>(std::min<int64_t>(lanes, count - first));
      T x[lanes] = {}, y[lanes] = {}, least[lanes];
      Number nearest[lanes] = {};
      for (int lane = 0; lane < filled; ++lane) x[lane] = block[2 * lane], y[lane] = block[2 * lane + 1];
      std::fill_n(least, lanes, std::numeric_limits<T>::infinity());
      for (int64_t n = 0; n < clusters; ++n)
        for (int lane = 0; lane < lanes; ++lane) {
          const T dx = x[lane] - centers[2 * n], dy = y[lane] - centers[2 * n + 1], distance = dx * dx + dy * dy;
          nearest[lane] = distance < least[lane] ? static_cast<Number>(n) : nearest[lane];
          least[lane] = distance < least[lane] ? distance : least[lane];
        }
      for (int lane = 0; lane < filled; ++lane) {
        T* sum = sums + 3 * nearest[lane];  // (3)
        sum[0] += x[lane], sum[1] += y[lane], sum[2] += 1;
      }
      if ((first + lanes) % run == 0) add_run();
    }
    add_run();
    for (int64_t n = 0; n < clusters; ++n) {
      const T x = static_cast<T>(totals[3 * n]), y = static_cast<T>(totals[3 * n + 1]);
      const T places_of_it = static_cast<T>(totals[3 * n + 2]);
      if (places_of_it > 0) centers[2 * n] = x / places_of_it, centers[2 * n + 1] = y / places_of_it;
    }
  }
}

}  // namespace fractalops::cpu::FRACTALOPS_ISA
