// Drawing balanced sequences on the CPU; the rule stands in fractalops/reference/draw_balanced_index.py.
//
// Who owns what: a task is balanced_lanes sequences, which advance together: a point depends on the one before it, and
// together they fill the processor's pipelines. What a sequence's contexts owe the maps lies in rows of whole vectors,
// of which a point reads and writes one of each context length.
//
// Included once for each instruction set; so no include guard, and no torch, so that the sanitizers can run it alone.

namespace fractalops::cpu::FRACTALOPS_ISA {

typedef int32_t BalancedVector __attribute__((vector_size(sizeof(int32_t) * balanced_width)));

// Adds up to `Vectors` vectors in registers; 0 stands for any number of them, as `vectors` says.
template <int Vectors, typename T>
FRACTALOPS_INLINE int64_t draw_balanced_point(const int32_t* share /* (stride) */, int64_t maps, int64_t vectors,
                                              T uniform, BalancedCounts& counts, int64_t* context /* (D) */,
                                              int32_t* due /* (stride) */) {
  constexpr int64_t bytes = sizeof(BalancedVector);
  const int64_t depth = static_cast<int64_t>(counts.contexts.size()), stride = vectors * balanced_width;
  const auto at = [](const int32_t* from, int64_t v) {
    BalancedVector to;
    __builtin_memcpy(&to, from + v * balanced_width, bytes);
    return to;
  };
  const int64_t count = Vectors > 0 ? Vectors : vectors;
  for (int64_t v = 0; v < count; ++v) {
    BalancedVector sum = at(share, v);
    for (int64_t d = 0; d < depth; ++d) sum += at(counts.owed[d].data() + context[d] * stride, v);
    sum = sum > 0 ? sum : BalancedVector{};
    __builtin_memcpy(due + v * balanced_width, &sum, bytes);
  }
  int64_t total = 0, reached = 0, drawn = 0;
  for (int64_t n = 0; n < maps; ++n) total += due[n];
  const int64_t wanted = std::min(static_cast<int64_t>(static_cast<double>(uniform) * total), total - 1);
  for (int64_t n = 0; n < maps; ++n) drawn += (reached += due[n]) <= wanted;
  for (int64_t d = depth - 1; d >= 0; --d) {
    int32_t* row = counts.owed[d].data() + context[d] * stride;
    for (int64_t v = 0; v < count; ++v) {
      const BalancedVector sum = at(row, v) + at(share, v);
      __builtin_memcpy(row + v * balanced_width, &sum, bytes);
    }
    row[drawn] -= balanced_unit;
    context[d] = (d > 0 ? context[d - 1] * maps : 0) + drawn;
  }
  return drawn;
}

template <int Vectors, typename T, typename Index>
void draw_balanced_lanes(const int32_t* const* share /* (lanes)(stride) */, int64_t maps,
                         const T* uniform /* (lanes, T) */, int64_t points, int lanes,
                         BalancedCounts* counts /* (lanes) */, int32_t* due /* (stride) */,
                         Index* index /* (lanes, T) */) {
  constexpr int64_t most_depth = 20;  // of two maps
  int64_t context[balanced_lanes][most_depth] = {};
  for (int64_t t = 0; t < points; ++t)
    for (int lane = 0; lane < lanes; ++lane)
      index[lane * points + t] = static_cast<Index>(
          draw_balanced_point<Vectors>(share[lane], maps, balanced_stride(maps) / balanced_width,
                                       uniform[lane * points + t], counts[lane], context[lane], due));
}

template <typename T, typename Index>
void draw_balanced_sequences(const int32_t* const* share /* (lanes)(stride) */, int64_t maps,
                             const T* uniform /* (lanes, T) */, int64_t points, int lanes,
                             BalancedCounts* counts /* (lanes) */, int32_t* due /* (stride) */,
                             Index* index /* (lanes, T) */) {
  for (int lane = 0; lane < lanes; ++lane)
    for (auto& owed : counts[lane].owed) std::fill(owed.begin(), owed.end(), 0);
  switch (balanced_stride(maps) / balanced_width) {
    case 1:
      return draw_balanced_lanes<1>(share, maps, uniform, points, lanes, counts, due, index);
    case 2:
      return draw_balanced_lanes<2>(share, maps, uniform, points, lanes, counts, due, index);
    case 3:
      return draw_balanced_lanes<3>(share, maps, uniform, points, lanes, counts, due, index);
    default:
      return draw_balanced_lanes<0>(share, maps, uniform, points, lanes, counts, due, index);
  }
}

}  // namespace fractalops::cpu::FRACTALOPS_ISA
