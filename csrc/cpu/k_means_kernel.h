// Lloyd's algorithm for k-means in the plane. No torch in here, so that the sanitizers can run it alone. Included once
// for each instruction set; so no include guard.
//
// A lane holds a place, with the distance and the number of the nearest center so far. A cluster adds up its places in
// their order, so that its sum doesn't depend on the width of vectors: in T those of a run, in double the runs, whose
// rounding would show in T.

namespace fractalops::cpu::FRACTALOPS_ISA {

// Moves the centers `rounds` times to the means of the places nearest to them; of equally near ones the first counts.
// A center without places stays.
template <typename T>
void k_means(const T* places /* (M, 2) */, int64_t count, int64_t clusters, int64_t rounds, T* centers /* (N, 2) */,
             T* sums /* (N, 3), scratch: of the places of a cluster in a run, and how many there are */,
             double* totals /* (N, 3), scratch: of all runs */) {
  constexpr int lanes = 128 / sizeof(T);  // enough chains of comparisons to fill their latency
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
        T* sum = sums + 3 * nearest[lane];
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
