// The affine chain on the CPU, v_t = A[z_t] v_(t-1) + b[z_t] (paper, equation 3), and its adjoint.
//
// Ownership: a task owns a run of sequences. In a task, up to chain_lanes sequences advance together. Each is a chain
// of dependent steps, and one alone cannot fill the processor's pipelines. The maps are read directly from the table.
// They are not gathered into vectors across the sequences, because a step has only two dependent multiply-adds.
//
// This file is included once per instruction set, so it has no include guard. It does not include torch, so that the
// sanitizer tests can compile it separately.

namespace fractalops::cpu::FRACTALOPS_ISA {

// Calls walk(first, lanes) for all sequences. `lanes` is a constant: Most, then 2 and 1 for the remaining sequences.
// With more constants, the many kernels would take twice as long to compile.
template <int Most, typename Walk>
FRACTALOPS_INLINE void foreach_lanes(int64_t begin, int64_t end, const Walk& walk) {
  for (; begin + Most <= end; begin += Most) walk(begin, std::integral_constant<int, Most>{});
  for (; begin + 2 <= end; begin += 2) walk(begin, std::integral_constant<int, 2>{});
  if (begin < end) walk(begin, std::integral_constant<int, 1>{});
}

template <typename T, int D, int Lanes, typename Index>
FRACTALOPS_INLINE void affine_chain_forward_lanes(const AffineChain<T, Index>& chain, int64_t first,
                                                  T* points /* (B, T, D) */) {
  const Index* index = chain.index + first * chain.length;  // (Lanes, T)
  T* out = points + first * chain.length * D;               // (Lanes, T, D)
  T state[Lanes][D];
  for (int lane = 0; lane < Lanes; ++lane)
    for (int i = 0; i < D; ++i) state[lane][i] = chain.start[(first + lane) * D + i];
  for (int64_t t = 0; t < chain.length; ++t) {
#pragma GCC unroll 5
    for (int lane = 0; lane < Lanes; ++lane) {
      const int64_t map = static_cast<int64_t>(index[lane * chain.length + t]);
      affine_step<T, D>(chain.matrix + map * D * D, chain.offset + map * D, state[lane]);
      for (int i = 0; i < D; ++i) out[(lane * chain.length + t) * D + i] = state[lane][i];
    }
  }
}

template <typename T, int D, typename Index>
void affine_chain_forward(const AffineChain<T, Index>& chain, int64_t begin, int64_t end, T* points /* (B, T, D) */) {
  foreach_lanes<chain_lanes<T, D>>(begin, end, [&]<int Lanes>(int64_t first, std::integral_constant<int, Lanes>) {
    affine_chain_forward_lanes<T, D, Lanes>(chain, first, points);
  });
}

// The adjoint of a point of one sequence.
template <typename T, int D>
struct Adjoint {
  T value[D] = {};

  FRACTALOPS_INLINE void add(const T* grad /* (D) */) {
    for (int i = 0; i < D; ++i) value[i] += grad[i];
  }
  FRACTALOPS_INLINE void add(const T* grad /* (D) */, const T* previous /* (D) */, MapGradient<D>& sums) {
    for (int i = 0; i < D; ++i) {
      value[i] += grad[i];
      for (int j = 0; j < D; ++j) sums.matrix[i][j] += static_cast<double>(value[i]) * previous[j];
      sums.offset[i] += value[i];
    }
  }
  FRACTALOPS_INLINE void step(const T* matrix /* (D, D) */) { affine_adjoint_step<T, D>(matrix, value); }
  FRACTALOPS_INLINE void store(T* to /* (D) */) const {
    for (int i = 0; i < D; ++i) to[i] = value[i];
  }
};

// The adjoint is in the first two elements of a vector. Terms are rounded to float, but their sums are in double.
template <>
struct Adjoint<float, 2> {
  typedef float Floats4 __attribute__((vector_size(16)));
  typedef double Doubles2 __attribute__((vector_size(16)));
  typedef double Doubles4 __attribute__((vector_size(32)));
  Floats4 value = {};

  template <int... Lane>
  static FRACTALOPS_INLINE Floats4 pick(const Floats4& v) {
#if defined(__clang__) || __GNUC__ >= 12
    return __builtin_shufflevector(v, v, Lane...);
#else
    typedef int32_t Ints4 __attribute__((vector_size(16)));
    return __builtin_shuffle(v, Ints4{Lane...});
#endif
  }
  static FRACTALOPS_INLINE Floats4 load(const float* from /* (2) */) {
    Doubles2 to = {};
    __builtin_memcpy(&to, from, 2 * sizeof(float));
    return reinterpret_cast<Floats4>(to);
  }
  template <typename Doubles, typename Floats>
  static FRACTALOPS_INLINE void add_doubles(const Floats& term, double* sum) {
    Doubles total;
    __builtin_memcpy(&total, sum, sizeof(total));
    total += __builtin_convertvector(term, Doubles);
    __builtin_memcpy(sum, &total, sizeof(total));
  }

  FRACTALOPS_INLINE void add(const float* grad /* (2) */) { value += load(grad); }
  FRACTALOPS_INLINE void add(const float* grad /* (2) */, const float* previous /* (2) */, MapGradient<2>& sums) {
    add(grad);
    typedef float Floats2 __attribute__((vector_size(8)));
    Floats2 pair;
    __builtin_memcpy(&pair, &value, sizeof(pair));
    add_doubles<Doubles4>(pick<0, 0, 1, 1>(value) * pick<0, 1, 0, 1>(load(previous)), sums.matrix[0]);
    add_doubles<Doubles2>(pair, sums.offset);
  }
  FRACTALOPS_INLINE void step(const float* matrix /* (2, 2) */) {
    value = pick<0, 0, 0, 0>(value) * load(matrix) + pick<1, 1, 1, 1>(value) * load(matrix + 2);
  }
  FRACTALOPS_INLINE void store(float* to /* (2) */) const { __builtin_memcpy(to, &value, 2 * sizeof(float)); }
};

// h_T = g_T; h_t = g_t + A[z_(t+1)]^T h_(t+1); dA[n] += h_t v_(t-1)^T and db[n] += h_t for all t with z_t = n.
template <typename T, int D, int Lanes, bool Weighted, typename Index>
FRACTALOPS_INLINE void affine_chain_backward_lanes(const AffineChain<T, Index>& chain,
                                                   const ChainGradients<T, D>& gradients, int64_t first) {
  const int64_t length = chain.length;
  const T* const matrix = chain.matrix;                            // (N, D, D)
  const Index* const index = chain.index + first * length;         // (Lanes, T)
  const T* const grad = gradients.grad + first * length * D;       // (Lanes, T, D)
  const T* const visited = gradients.points + first * length * D;  // (Lanes, T, D)
  const T* const weight = gradients.weight;                        // (B, T)
  MapGradient<D>* const maps = gradients.maps;
  Adjoint<T, D> adjoint[Lanes];
  if (gradients.end != nullptr)
    for (int lane = 0; lane < Lanes; ++lane) adjoint[lane].add(gradients.end + (first + lane) * D);
  const auto step = [&](int lane, int64_t t, const T* previous /* (D) */) __attribute__((always_inline)) {
    const int64_t place = lane * length + t, map = static_cast<int64_t>(index[place]);
    adjoint[lane].add(grad + place * D, previous, maps[map]);
    if (Weighted && weight != nullptr) maps[map].weight += weight[first * length + place];
    adjoint[lane].step(matrix + map * D * D);
  };
  constexpr bool peeled = std::is_same_v<T, float> && D == 2;  // other types get better code with one loop
  for (int64_t t = length - 1; t >= peeled; --t) {
#pragma GCC unroll 5
    for (int lane = 0; lane < Lanes; ++lane)
      step(lane, t, peeled || t > 0 ? visited + (lane * length + t - 1) * D : chain.start + (first + lane) * D);
  }
  for (int lane = 0; lane < Lanes; ++lane) {
    if constexpr (peeled) step(lane, 0, chain.start + (first + lane) * D);
    adjoint[lane].store(gradients.start + (first + lane) * D);
  }
}

template <typename T, int D, typename Index>
void affine_chain_backward(const AffineChain<T, Index>& chain, const ChainGradients<T, D>& gradients, int64_t begin,
                           int64_t end) {
  if (chain.length == 0) {
    for (int64_t i = begin * D; i < end * D; ++i)
      gradients.start[i] = gradients.end != nullptr ? gradients.end[i] : T(0);
    return;
  }
  constexpr bool looks = !(std::is_same_v<T, float> && D == 2);  // check for null at run time instead of another copy
  foreach_lanes<chain_lanes<T, D>>(begin, end, [&]<int Lanes>(int64_t first, std::integral_constant<int, Lanes>) {
    if (gradients.weight == nullptr)
      affine_chain_backward_lanes<T, D, Lanes, looks>(chain, gradients, first);
    else
      affine_chain_backward_lanes<T, D, Lanes, true>(chain, gradients, first);
  });
}

// Composes a sequence's steps into one map. With a gradient (Reversed), the map applies to the adjoint that reaches the
// sequence's end. A vector holds a row of the matrix and the offset's element. The arithmetic is in double, because
// products of contractions leave the range of float.
template <typename T, int D, int Lanes, bool Reversed, typename Index>
FRACTALOPS_INLINE void affine_chain_compose_lanes(const AffineChain<double, Index>& chain,
                                                  const T* grad /* (B, T, D) */, int64_t first,
                                                  AffineMap<double, D>* composed /* (B) */) {
  typedef double Row __attribute__((vector_size(32)));
  const int64_t length = chain.length;
  const double* const matrix = chain.matrix;                // (N, D, D)
  const double* const offset = chain.offset;                // (N, D)
  const Index* const index = chain.index + first * length;  // (Lanes, T)
  if constexpr (Reversed) grad += first * length * D;       // (Lanes, T, D)
  Row unit[D + 1] = {}, rows[Lanes][D];
  for (int i = 0; i <= D; ++i) unit[i][i] = 1;
  for (int lane = 0; lane < Lanes; ++lane)
    for (int i = 0; i < D; ++i) rows[lane][i] = unit[i];
  for (int64_t t = 0; t < length; ++t) {
#pragma GCC unroll 5
    for (int lane = 0; lane < Lanes; ++lane) {
      const int64_t place = lane * length + (Reversed ? length - 1 - t : t), map = static_cast<int64_t>(index[place]);
      const double* a = matrix + map * D * D;  // (D, D)
      Row next[D];
      for (int i = 0; i < D; ++i) {
        if constexpr (Reversed) rows[lane][i] += unit[D] * static_cast<double>(grad[place * D + i]);
        next[i] = Reversed ? Row{} : unit[D] * offset[map * D + i];
      }
      for (int j = 0; j < D; ++j)
        for (int i = 0; i < D; ++i) next[i] += a[Reversed ? j * D + i : i * D + j] * rows[lane][j];
      for (int i = 0; i < D; ++i) rows[lane][i] = next[i];
    }
  }
  for (int lane = 0; lane < Lanes; ++lane)
    for (int i = 0; i < D; ++i) {
      for (int j = 0; j < D; ++j) composed[first + lane].matrix[i * D + j] = rows[lane][i][j];
      composed[first + lane].offset[i] = rows[lane][i][D];
    }
}

template <typename T, int D, typename Index>
void affine_chain_compose(const AffineChain<double, Index>& chain, const T* grad /* (B, T, D) or null */, int64_t begin,
                          int64_t end, AffineMap<double, D>* composed /* (B) */) {
  foreach_lanes<compose_lanes>(begin, end, [&]<int Lanes>(int64_t first, std::integral_constant<int, Lanes>) {
    if (grad != nullptr)
      affine_chain_compose_lanes<T, D, Lanes, true>(chain, grad, first, composed);
    else
      affine_chain_compose_lanes<T, D, Lanes, false>(chain, grad, first, composed);
  });
}

}  // namespace fractalops::cpu::FRACTALOPS_ISA
