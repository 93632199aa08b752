// The affine chain on the CPU, v_t = A[z_t] v_(t-1) + b[z_t] (paper, equation 3), and its adjoint.
//
// Who owns what: a task is a run of sequences. Inside it chain_lanes sequences advance together, each a chain of
// dependent steps; together they fill the processor's pipelines, which one sequence can't. The maps are read from the
// table where they lie, not gathered into vectors across the sequences: a step has only two dependent multiply-adds.
//
// Included once for each instruction set; so no include guard, and no torch, so that the sanitizers can run it alone.

namespace fractalops::cpu::FRACTALOPS_ISA {

template <typename T, int D, int Lanes, typename Index>
FRACTALOPS_INLINE void affine_chain_forward_lanes(const AffineChain<T, Index>& chain, int64_t first,
                                                  T* points /* (B, T, D) */) {
  const Index* index = chain.index + first * chain.length;  // (Lanes, T)
  T* out = points + first * chain.length * D;               // (Lanes, T, D)
  T state[Lanes][D];
  for (int lane = 0; lane < Lanes; ++lane)
    for (int i = 0; i < D; ++i) state[lane][i] = chain.start[(first + lane) * D + i];
  for (int64_t t = 0; t < chain.length; ++t) {
#pragma GCC unroll 4
    for (int lane = 0; lane < Lanes; ++lane) {
      const int64_t map = static_cast<int64_t>(index[lane * chain.length + t]);
      affine_step<T, D>(chain.matrix + map * D * D, chain.offset + map * D, state[lane]);
      for (int i = 0; i < D; ++i) out[(lane * chain.length + t) * D + i] = state[lane][i];
    }
  }
}

template <typename T, int D, typename Index>
void affine_chain_forward(const AffineChain<T, Index>& chain, int64_t begin, int64_t end, T* points /* (B, T, D) */) {
  int64_t sequence = begin;
  for (; sequence + chain_lanes <= end; sequence += chain_lanes)
    affine_chain_forward_lanes<T, D, chain_lanes>(chain, sequence, points);
  for (; sequence < end; ++sequence) affine_chain_forward_lanes<T, D, 1>(chain, sequence, points);
}

// h_T = g_T; h_t = g_t + A[z_(t+1)]^T h_(t+1); dA[n] += h_t v_(t-1)^T and db[n] += h_t over the t with z_t = n.
template <typename T, int D, int Lanes, typename Index>
FRACTALOPS_INLINE void affine_chain_backward_lanes(const AffineChain<T, Index>& chain, int64_t first,
                                                   const T* grad /* (B, T, D) */, const T* points /* (B, T, D) */,
                                                   MapGradient<D>* grad_maps /* (N) */, T* grad_start /* (B, D) */) {
  const Index* index = chain.index + first * chain.length;  // (Lanes, T)
  const T* upstream = grad + first * chain.length * D;      // (Lanes, T, D)
  const T* visited = points + first * chain.length * D;     // (Lanes, T, D)
  T adjoint[Lanes][D] = {};
  for (int64_t t = chain.length - 1; t >= 0; --t) {
#pragma GCC unroll 4
    for (int lane = 0; lane < Lanes; ++lane) {
      const int64_t step = lane * chain.length + t;
      const int64_t map = static_cast<int64_t>(index[step]);
      const T* previous = t > 0 ? visited + (step - 1) * D : chain.start + (first + lane) * D;  // (D)
      MapGradient<D>& sums = grad_maps[map];
      for (int i = 0; i < D; ++i) {
        adjoint[lane][i] += upstream[step * D + i];
        for (int j = 0; j < D; ++j) sums.matrix[i][j] += static_cast<double>(adjoint[lane][i]) * previous[j];
        sums.offset[i] += adjoint[lane][i];
      }
      affine_adjoint_step<T, D>(chain.matrix + map * D * D, adjoint[lane]);
    }
  }
  for (int lane = 0; lane < Lanes; ++lane)
    for (int i = 0; i < D; ++i) grad_start[(first + lane) * D + i] = adjoint[lane][i];
}

template <typename T, int D, typename Index>
void affine_chain_backward(const AffineChain<T, Index>& chain, int64_t begin, int64_t end,
                           const T* grad /* (B, T, D) */, const T* points /* (B, T, D) */,
                           MapGradient<D>* grad_maps /* (N) */, T* grad_start /* (B, D) */) {
  int64_t sequence = begin;
  for (; sequence + chain_lanes <= end; sequence += chain_lanes)
    affine_chain_backward_lanes<T, D, chain_lanes>(chain, sequence, grad, points, grad_maps, grad_start);
  for (; sequence < end; ++sequence)
    affine_chain_backward_lanes<T, D, 1>(chain, sequence, grad, points, grad_maps, grad_start);
}

}  // namespace fractalops::cpu::FRACTALOPS_ISA
