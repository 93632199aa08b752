// Kernels that draw balanced sequences on the CPU. fractalops/reference/draw_balanced_index.py defines the rule and the
// deficits of maps after a context (`owed`). The amount due to a map is its probability plus its deficits after the
// current contexts, or 0 if this is negative.
//
// Ownership: a task owns groups of up to balanced_lanes sequences, which advance together. Each point depends on the
// point before it, and one sequence alone cannot fill the processor's pipelines. The deficits after a sequence's
// contexts are in rows of whole vectors. A point reads and writes one row of each context length. To find the drawn
// map, shifts within registers compute, for each map, the sum of the amounts due to all maps up to it. The sums that do
// not exceed the drawn number are then counted.
//
// All sums are exact. 32 bits can hold 2047 units. With contexts of length 1 only, each deficit is more than -1 unit,
// so the amounts due add up to at most N units, and only up to 1024 maps have contexts. With D context lengths, no
// choice of random numbers was found for which they add up to more than D N units.
//
// This file is included once per instruction set, so it has no include guard. It does not include torch, so that the
// sanitizer tests can compile it separately.

namespace fractalops::cpu::FRACTALOPS_ISA {

typedef int32_t Counts __attribute__((vector_size(FRACTALOPS_REGISTER_BYTES)));
inline constexpr int counts_width = FRACTALOPS_REGISTER_BYTES / sizeof(int32_t);

FRACTALOPS_INLINE Counts load_counts(const int32_t* from /* (counts_width) */) {
  Counts to;
  __builtin_memcpy(&to, from, sizeof(to));
  return to;
}

FRACTALOPS_INLINE void store_counts(const Counts& from, int32_t* to /* (counts_width) */) {
  __builtin_memcpy(to, &from, sizeof(from));
}

// Returns elements of two concatenated vectors. GCC has had clang's builtin since version 12.
template <int... Lane>
FRACTALOPS_INLINE Counts pick_counts(const Counts& v, const Counts& w) {
#if defined(__clang__) || __GNUC__ >= 12
  return __builtin_shufflevector(v, w, Lane...);
#else
  return __builtin_shuffle(v, w, Counts{Lane...});
#endif
}

#if FRACTALOPS_REGISTER_BYTES == 16
FRACTALOPS_INLINE Counts add_lanes_below(Counts sum) {
  const Counts zero = {};
  sum += pick_counts<3, 4, 5, 6>(zero, sum);
  return sum + pick_counts<2, 3, 4, 5>(zero, sum);
}

FRACTALOPS_INLINE Counts spread_last(const Counts& v) { return pick_counts<3, 3, 3, 3>(v, v); }
#elif FRACTALOPS_REGISTER_BYTES == 32
// Adds within 128 bits first, and then from one half to the other, because few instructions cross the halves.
FRACTALOPS_INLINE Counts add_lanes_below(Counts sum) {
  const Counts zero = {};
  sum += pick_counts<3, 8, 9, 10, 7, 12, 13, 14>(zero, sum);
  sum += pick_counts<2, 3, 8, 9, 6, 7, 12, 13>(zero, sum);
  const Counts last = pick_counts<3, 3, 3, 3, 7, 7, 7, 7>(sum, sum);
  return sum + pick_counts<0, 1, 2, 3, 8, 9, 10, 11>(zero, last);
}

FRACTALOPS_INLINE Counts spread_last(const Counts& v) {
  const Counts last = pick_counts<3, 3, 3, 3, 7, 7, 7, 7>(v, v);
  return pick_counts<4, 5, 6, 7, 4, 5, 6, 7>(last, last);
}
#else
FRACTALOPS_INLINE Counts add_lanes_below(Counts sum) {
  const Counts zero = {};
  sum += pick_counts<15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30>(zero, sum);
  sum += pick_counts<14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29>(zero, sum);
  sum += pick_counts<12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27>(zero, sum);
  return sum + pick_counts<8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23>(zero, sum);
}

FRACTALOPS_INLINE Counts spread_last(const Counts& v) {
  return pick_counts<15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15>(v, v);
}
#endif

// Returns the number of lanes in which a comparison is true.
FRACTALOPS_INLINE int64_t count_true(const Counts& compared) {
#if FRACTALOPS_REGISTER_BYTES >= 32
  typedef float Floats8 __attribute__((vector_size(32)));
  Floats8 parts[FRACTALOPS_REGISTER_BYTES / 32];
  __builtin_memcpy(parts, &compared, sizeof(parts));
  int64_t count = 0;
  for (const Floats8& part : parts) count += __builtin_popcount(__builtin_ia32_movmskps256(part));
  return count;
#else
  return -add_lanes_below(compared)[counts_width - 1];
#endif
}

// Scales a number in [0, 1) to an integer below `total`. It is always below: a double below 1 is at most 1 - 2^-53, and
// its product with an integer below 2^53 is rounded to less than that integer.
template <typename T>
FRACTALOPS_INLINE int32_t scale_number(T uniform, int32_t total) {
  return static_cast<int32_t>(static_cast<double>(uniform) * total);
}

// Draws from up to balanced_width maps, in `Vectors` vectors, with contexts of `Depth` lengths; a Depth of 0 means any
// number of lengths. All sums are in registers.
template <int Vectors, int Depth, typename T, typename Index>
void draw_balanced_narrow(const int32_t* share /* (stride) */, BalancedCounts& counts,
                          const T* uniform /* (lanes, T) */, int lanes, Index* index /* (lanes, T) */) {
  constexpr int most_depth = Depth > 0 ? Depth : balanced_most_depth;
  const int depth = Depth > 0 ? Depth : counts.depth;
  const int64_t maps = counts.maps, points = counts.points, size = counts.size;
  int32_t* const first = counts.owed();
  int32_t* changes = counts.scratch();  // (N, stride): change of a row when a map is drawn
  for (int64_t n = 0; n < maps; ++n) {
    std::copy_n(share, balanced_width, changes + n * balanced_width);
    changes[n * balanced_width + n] -= balanced_unit;
  }
  Counts shares[Vectors];
  for (int v = 0; v < Vectors; ++v) shares[v] = load_counts(share + v * counts_width);
  int64_t place[most_depth], context[balanced_lanes][most_depth] = {};
  std::copy_n(counts.place, depth, place);
  for (int64_t t = 0; t < points; ++t) {
#pragma GCC unroll 1
    for (int lane = 0; lane < lanes; ++lane) {
      int32_t* rows[most_depth];
      Counts owed[most_depth][Vectors], reached[Vectors], carry = {};
      for (int d = 0; d < depth; ++d) rows[d] = first + lane * size + place[d] + context[lane][d] * balanced_width;
      for (int v = 0; v < Vectors; ++v) {
        Counts due = shares[v];
        for (int d = 0; d < depth; ++d) due += owed[d][v] = load_counts(rows[d] + v * counts_width);
        reached[v] = carry + add_lanes_below(due > 0 ? due : Counts{});
        carry = spread_last(reached[v]);
      }
      const int32_t wanted = scale_number(uniform[lane * points + t], carry[0]);
      int64_t drawn = Vectors * counts_width;
      for (int v = 0; v < Vectors; ++v) drawn -= count_true(reached[v] > wanted);
      drawn = std::min(drawn, maps - 1);  // a number outside [0, 1) must not lead outside the rows
      for (int d = depth - 1; d >= 0; --d) {
        for (int v = 0; v < Vectors; ++v)
          store_counts(owed[d][v] + load_counts(changes + drawn * balanced_width + v * counts_width),
                       rows[d] + v * counts_width);
        context[lane][d] = (d > 0 ? context[lane][d - 1] * maps : 0) + drawn;
      }
      index[lane * points + t] = static_cast<Index>(drawn);
    }
  }
}

// Draws from any number of maps, with any number of context lengths. The rows do not fit into registers.
template <typename T, typename Index>
void draw_balanced_wide(const int32_t* share /* (stride) */, BalancedCounts& counts, const T* uniform /* (lanes, T) */,
                        int lanes, Index* index /* (lanes, T) */) {
  const int64_t maps = counts.maps, points = counts.points, stride = counts.stride;
  int32_t* reached = counts.scratch();  // (stride)
  int64_t context[balanced_lanes][balanced_most_depth] = {};
  for (int64_t t = 0; t < points; ++t)
    for (int lane = 0; lane < lanes; ++lane) {
      int32_t* rows[balanced_most_depth];
      for (int d = 0; d < counts.depth; ++d)
        rows[d] = counts.owed() + lane * counts.size + counts.place[d] + context[lane][d] * stride;
      Counts carry = {};
      for (int64_t n = 0; n < maps; n += counts_width) {
        Counts due = load_counts(share + n);
        for (int d = 0; d < counts.depth; ++d) due += load_counts(rows[d] + n);
        const Counts sum = carry + add_lanes_below(due > 0 ? due : Counts{});
        store_counts(sum, reached + n);
        carry = spread_last(sum);
      }
      const int32_t wanted = scale_number(uniform[lane * points + t], carry[0]);
      Counts below = {};
      for (int64_t n = 0; n < maps; n += counts_width) below += load_counts(reached + n) <= wanted;
      const int64_t drawn = std::min<int64_t>(-add_lanes_below(below)[counts_width - 1], maps - 1);
      for (int d = counts.depth - 1; d >= 0; --d) {
        for (int64_t n = 0; n < maps; n += counts_width)
          store_counts(load_counts(rows[d] + n) + load_counts(share + n), rows[d] + n);
        rows[d][drawn] -= balanced_unit;
        context[lane][d] = (d > 0 ? context[lane][d - 1] * maps : 0) + drawn;
      }
      index[lane * points + t] = static_cast<Index>(drawn);
    }
}

// Draws K sequences of one system. It allocates no memory.
template <typename T, typename Index>
void draw_balanced_sequences(const int32_t* share /* (stride) */, BalancedCounts& counts, const T* uniform /* (K, T) */,
                             int64_t sequences, Index* index /* (K, T) */) {
  for (int64_t k = 0; k < sequences; k += balanced_lanes) {
    const int lanes = static_cast<int>(std::min<int64_t>(balanced_lanes, sequences - k));
    const T* numbers = uniform + k * counts.points;  // (lanes, T)
    Index* out = index + k * counts.points;          // (lanes, T)
    std::fill_n(counts.owed(), lanes * counts.size, 0);
    const bool narrow = with_constant<balanced_width / counts_width>(
        divide_up(counts.maps, counts_width), [&]<int Vectors>(std::integral_constant<int, Vectors>) {
          const auto draw = [&]<int Depth>(std::integral_constant<int, Depth>) {
            draw_balanced_narrow<Vectors, Depth>(share, counts, numbers, lanes, out);
            return true;
          };
          return with_constant<balanced_narrow_depth>(counts.depth, draw) || draw(std::integral_constant<int, 0>{});
        });
    if (!narrow) draw_balanced_wide(share, counts, numbers, lanes, out);
  }
}

}  // namespace fractalops::cpu::FRACTALOPS_ISA
