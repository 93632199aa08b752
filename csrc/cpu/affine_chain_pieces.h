// The affine chain and its adjoint for all sequences of a batch. This file is included after the kernels. It does not
// include torch, so that the sanitizer tests and the instruction counts can use it, too. The argument split(tasks,
// nanoseconds per task, work) calls work(begin, end) for parts of [0, tasks), on one thread or several.
//
// A batch of one or two long sequences is cut into pieces, which advance together and on several threads. A scan
// composes the maps of the pieces and so finds the start of each piece. This doubles the arithmetic, but is faster even
// on one thread, because a single sequence leaves the thread's pipelines idle. Whether and where sequences are cut
// depends on shapes only, so that the result does not depend on the number of threads.
//
// A product of maps can overflow although the points do not, and points can overflow although a product that contains a
// zero does not. So if the start or the end of a piece is not finite, the sequence is computed again in one piece.
// Results that are not finite are then the same as without a scan.
#pragma once

#include <cmath>
#include <vector>

#include "affine_chain.h"

namespace fractalops::cpu {

inline constexpr int64_t piece_length = 2048;
inline constexpr int64_t cut_length = 1 << 15;  // length of the shortest sequence that is cut
inline constexpr int64_t cut_sequences = 2;     // more sequences fill one thread's pipelines

template <typename T>
bool all_finite(const T* values, int64_t count) {
  return std::all_of(values, values + count, [](T value) { return std::isfinite(value); });
}

template <typename T, int D, typename Index, typename Split>
void walk_forward(const AffineChain<T, Index>& chain, T* points /* (B, T, D) */, const Split& split) {
  constexpr int lanes = chain_lanes<T, D>;
  split(divide_up(chain.sequences, lanes), 1.5 * static_cast<double>(lanes * chain.length),
        [&](int64_t begin, int64_t end) {
          FRACTALOPS_SELECT(affine_chain_forward<T, D, Index>)
          (chain, begin * lanes, std::min(end * lanes, chain.sequences), points);
        });
}

template <typename T, int D, typename Index, typename Split>
void walk_backward(const AffineChain<T, Index>& chain, const ChainGradients<T, D>& gradients, const Split& split) {
  const int64_t blocks = affine_chain_blocks<T, D>(chain.maps, chain.sequences, chain.length);
  std::vector<MapGradient<D>> partial(blocks * chain.maps);  // (blocks, N), zeros
  const double points = static_cast<double>(chain.sequences * chain.length);
  split(blocks, 3 * points / static_cast<double>(blocks), [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      ChainGradients<T, D> own = gradients;
      own.maps = partial.data() + block * chain.maps;
      FRACTALOPS_SELECT(affine_chain_backward<T, D, Index>)
      (chain, own, affine_chain_block_begin<T, D>(block, blocks, chain.sequences),
       affine_chain_block_begin<T, D>(block + 1, blocks, chain.sequences));
    }
  });
  for (int64_t block = 0; block < blocks; ++block)
    for (int64_t map = 0; map < chain.maps; ++map) gradients.maps[map] += partial[block * chain.maps + map];
}

// The pieces of a sequence, which have equal lengths, and the rest of its points.
template <typename T, int D, typename Index>
struct Pieces {
  AffineChain<T, Index> whole, pieces, rest;
  std::vector<T> start;  // (pieces, D)

  explicit Pieces(const AffineChain<T, Index>& sequence)
      : whole(sequence), pieces(sequence), rest(sequence), start(sequence.length / piece_length * D) {
    pieces.sequences = sequence.length / piece_length;
    pieces.length = sequence.length / pieces.sequences;
    pieces.start = start.data();
    std::copy_n(sequence.start, D, start.data());
    rest.index += points();
    rest.length -= points();
  }

  int64_t points() const { return pieces.sequences * pieces.length; }

  // Returns the maps (pieces) to which the pieces compose. They apply to a piece's start or, with a gradient, to the
  // adjoint that reaches the piece's end.
  template <typename Split>
  std::vector<AffineMap<double, D>> compose(const T* grad /* (T, D) or null */, const Split& split) const {
    const std::vector<double> matrix(whole.matrix, whole.matrix + whole.maps * D * D);  // (N, D, D)
    const std::vector<double> offset(whole.offset, whole.offset + whole.maps * D);      // (N, D)
    const AffineChain<double, Index> exact{matrix.data(), offset.data(),    pieces.index, nullptr,
                                           pieces.maps,   pieces.sequences, pieces.length};
    std::vector<AffineMap<double, D>> composed(pieces.sequences);  // (pieces)
    split(divide_up(pieces.sequences, compose_lanes), 1.5 * static_cast<double>(compose_lanes * pieces.length),
          [&](int64_t begin, int64_t end) {
            FRACTALOPS_SELECT(affine_chain_compose<T, D, Index>)
            (exact, grad, begin * compose_lanes, std::min(end * compose_lanes, pieces.sequences), composed.data());
          });
    return composed;
  }
};

// Computes the points of one sequence in pieces. Returns whether the starts and ends of the pieces are finite.
template <typename T, int D, typename Index, typename Split>
bool scan_forward(const AffineChain<T, Index>& sequence, T* points /* (T, D) */, const Split& split) {
  Pieces<T, D, Index> cut(sequence);
  const std::vector<AffineMap<double, D>> composed = cut.compose(nullptr, split);
  double state[D];
  std::copy_n(sequence.start, D, state);
  for (int64_t piece = 1; piece < cut.pieces.sequences; ++piece) {
    apply(composed[piece - 1], state);
    for (int i = 0; i < D; ++i) cut.start[piece * D + i] = static_cast<T>(state[i]);
  }
  if (!all_finite(cut.start.data(), cut.pieces.sequences * D)) return false;
  walk_forward<T, D>(cut.pieces, points, split);
  for (int64_t last = cut.pieces.length - 1; last < cut.points(); last += cut.pieces.length)
    if (!all_finite(points + last * D, D)) return false;
  cut.rest.start = points + (cut.points() - 1) * D;
  walk_forward<T, D>(cut.rest, points + cut.points() * D, split);
  return true;
}

// Computes the gradients of one sequence in pieces. Returns whether the adjoints at the starts and ends of the pieces
// are finite. If they are not, the gradients are invalid.
template <typename T, int D, typename Index, typename Split>
bool scan_backward(const AffineChain<T, Index>& sequence, const ChainGradients<T, D>& gradients, const Split& split) {
  Pieces<T, D, Index> cut(sequence);
  const int64_t pieces = cut.pieces.sequences, points = cut.points();
  for (int64_t piece = 1; piece < pieces; ++piece)
    std::copy_n(gradients.points + (piece * cut.pieces.length - 1) * D, D, cut.start.data() + piece * D);
  std::vector<T> begin(pieces * D), end(pieces * D);  // (pieces, D) each: the adjoints at their starts and ends
  ChainGradients<T, D> of_rest = gradients.from(points), of_pieces = gradients;
  of_rest.start = end.data() + (pieces - 1) * D;
  cut.rest.start = gradients.points + (points - 1) * D;
  walk_backward<T, D>(cut.rest, of_rest, split);
  const std::vector<AffineMap<double, D>> composed = cut.compose(gradients.grad, split);
  double state[D];
  std::copy_n(of_rest.start, D, state);
  for (int64_t piece = pieces - 1; piece > 0; --piece) {
    apply(composed[piece], state);
    for (int i = 0; i < D; ++i) end[(piece - 1) * D + i] = static_cast<T>(state[i]);
  }
  if (!all_finite(end.data(), pieces * D)) return false;
  of_pieces.start = begin.data();
  of_pieces.end = end.data();
  walk_backward<T, D>(cut.pieces, of_pieces, split);
  std::copy_n(begin.data(), D, gradients.start);
  return all_finite(begin.data(), pieces * D);
}

// Returns sequence `number` as a chain of one sequence.
template <typename T, int D, typename Index>
AffineChain<T, Index> one_sequence(const AffineChain<T, Index>& chain, int64_t number) {
  AffineChain<T, Index> sequence = chain;
  sequence.index += number * chain.length;
  sequence.start += number * D;
  sequence.sequences = 1;
  return sequence;
}

template <typename T, typename Index>
bool is_cut(const AffineChain<T, Index>& chain) {
  return chain.sequences <= cut_sequences && chain.length >= cut_length;
}

template <typename T, int D, typename Index, typename Split>
void chain_forward(const AffineChain<T, Index>& chain, T* points /* (B, T, D) */, const Split& split) {
  if (!is_cut(chain)) return walk_forward<T, D>(chain, points, split);
  for (int64_t b = 0; b < chain.sequences; ++b) {
    const AffineChain<T, Index> sequence = one_sequence<T, D>(chain, b);
    T* const own = points + b * chain.length * D;  // (T, D)
    if (!scan_forward<T, D>(sequence, own, split)) walk_forward<T, D>(sequence, own, split);
  }
}

// Computes the gradients. Those of the maps are added to `gradients.maps`.
template <typename T, int D, typename Index, typename Split>
void chain_backward(const AffineChain<T, Index>& chain, const ChainGradients<T, D>& gradients, const Split& split) {
  if (!is_cut(chain)) return walk_backward<T, D>(chain, gradients, split);
  for (int64_t b = 0; b < chain.sequences; ++b) {
    const AffineChain<T, Index> sequence = one_sequence<T, D>(chain, b);
    std::vector<MapGradient<D>> maps(chain.maps);  // (N), zeros
    ChainGradients<T, D> own = gradients.from(b * chain.length);
    own.start += b * D;
    own.maps = maps.data();
    if (!scan_backward<T, D>(sequence, own, split)) {
      std::fill(maps.begin(), maps.end(), MapGradient<D>{});
      walk_backward<T, D>(sequence, own, split);
    }
    for (int64_t map = 0; map < chain.maps; ++map) gradients.maps[map] += maps[map];
  }
}

}  // namespace fractalops::cpu
