// Lloyd's algorithm for k-means in the plane. No torch in here, so that the sanitizers can run it alone. Included once
// for each instruction set; so no include guard.
//
// A lane holds a place, with the distance and the number of the nearest center so far. A cluster adds up its places in
// their order, so that its sum doesn't depend on the width of vectors.

namespace fractalops::cpu::FRACTALOPS_ISA {

// Moves the centers `rounds` times to the means of the places nearest to them; of equally near ones the first counts.
// A center without places stays.
template <typename T>
void k_means(const T* places /* (M, 2) */, int64_t count, int64_t clusters, int64_t rounds, T* centers /* (N, 2) */,
             T* sums /* (N, 3), scratch: of the places of a cluster, and how many there are */) {
  constexpr int lanes = 128 / sizeof(T);  // enough chains of comparisons to fill their latency
  using Number = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  for (int64_t round = 0; round < rounds; ++round) {
    std::fill_n(sums, 3 * clusters, T(0));
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
        T* sum = sums + 3 * nearest[lane];
        sum[0] += x[lane], sum[1] += y[lane], sum[2] += 1;
      }
    }
    for (int64_t n = 0; n < clusters; ++n) {
      const T* sum = sums + 3 * n;
      if (sum[2] > 0) centers[2 * n] = sum[0] / sum[2], centers[2 * n + 1] = sum[1] / sum[2];
    }
  }
}

}  // namespace fractalops::cpu::FRACTALOPS_ISA
