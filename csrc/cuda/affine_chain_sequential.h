// The affine chain for many sequences: each lane computes a sequence step by step, v_t = A[z_t] v_(t-1) + b[z_t]
// (paper, equation 3), and its adjoint in reverse. Nothing is computed twice, but it takes thousands of sequences to
// fill a GPU.
//
// Ownership, in both kernels: a block is one warp and owns 32 sequences at a time. Lane l owns the l-th of them and its
// row of each tile. A tile holds the same few steps of the 32 sequences. So the warp accesses global memory in whole
// words, and each lane accesses its own row of shared memory. The rows are an odd number of elements apart:
//
//              steps of the tile ->
//   lane  0   | z v z v z v z v ... |   sequence 32 g
//   lane  1   | z v z v z v z v ... |   sequence 32 g + 1
//     ...
//   lane 31   | z v z v z v z v ... |   sequence 32 g + 31
#pragma once

#include "affine_chain.h"
#include "sum_by_map.h"

namespace fractalops::cuda {

// Steps per tile: 128 bytes of a row per dimension. The backward has half as many, because it holds two such tiles.
template <typename T>
inline constexpr int forward_steps = 128 / sizeof(T);
template <typename T>
inline constexpr int backward_steps = 64 / sizeof(T);

// A block is one warp, and a lane owns one sequence at a time (diagram above).
//
// Budget: 72 registers (float32), 96 (float64).
// Shared memory: 16,640 bytes (float32), 14,720 (float64), plus the maps if they fit.
template <typename T, int D>
__global__ void __launch_bounds__(lanes)
    affine_chain_forward_sequential(AffineChain<T> chain, T* points /* (B, T, D) */) {
  constexpr int steps = forward_steps<T>, pitch = odd_pitch(steps * D), index_pitch = odd_pitch(steps);
  const int lane = threadIdx.x;
  SharedMemory shared;
  T* tile = shared.take<T>(lanes * pitch);  // (32, pitch)
  const MapTable<T, D> table = place_maps<T, D>(chain, shared);
  int* maps = shared.take<int>(lanes * index_pitch);  // (32, index_pitch)

  for (int64_t first = static_cast<int64_t>(blockIdx.x) * lanes; first < chain.sequences;
       first += static_cast<int64_t>(gridDim.x) * lanes) {
    const int rows = chain.sequences - first < lanes ? static_cast<int>(chain.sequences - first) : lanes;
    T point[D] = {};
    if (lane < rows)
      for (int i = 0; i < D; ++i) point[i] = chain.start[(first + lane) * D + i];

    for (int64_t t = 0; t < chain.length; t += steps) {
      const int count = chain.length - t < steps ? static_cast<int>(chain.length - t) : steps;
      const int64_t corner = first * chain.length + t;
      stage_index(chain, {corner, chain.length, rows, count, index_pitch}, maps, lane, lanes);
      __syncwarp();
      if (lane < rows) {
        const int* mine = maps + lane * index_pitch;
        AffineMap<T, D> map = table.map(mine[0]);
        for (int s = 0; s < count; ++s) {
          const AffineMap<T, D> next = table.map(mine[s + 1 < count ? s + 1 : s]);
          apply(map, point);
          for (int i = 0; i < D; ++i) tile[lane * pitch + s * D + i] = point[i];
          map = next;
        }
      }
      __syncwarp();
      stage_out(points, {corner * D, chain.length * D, rows, count * D, pitch}, tile, lane, lanes);
    }
  }
}

// h_T = g_T; h_t = g_t + A[z_(t+1)]^T h_(t+1). The tile of upstream gradients is overwritten by adjoints, which are
// summed by map and then discarded. A block is one warp, and a lane owns one sequence at a time (diagram above).
// sum_by_map.h says which lane owns a sum.
//
// Budget: 96 registers (float32), 112 (float64).
// Shared memory: 14,720 bytes (float32), 13,952 (float64), plus sums and maps if they fit.
template <typename T, int D>
__global__ void __launch_bounds__(lanes)
    affine_chain_backward_sequential(AffineChain<T> chain, const T* grad /* (B, T, D) */,
                                     const T* points /* (B, T, D) */, double* slots /* (blocks, N, D, D + 1) */,
                                     bool sums_in_shared, T* grad_start /* (B, D) */) {
  constexpr int steps = backward_steps<T>, pitch = odd_pitch(steps * D), index_pitch = odd_pitch(steps);
  const int lane = threadIdx.x;
  const int64_t size = chain.sequences * chain.length * D;
  SharedMemory shared;
  T* adjoints = shared.take<T>(lanes * pitch);  // (32, pitch): g_t, then h_t
  T* previous = shared.take<T>(lanes * pitch);  // (32, pitch): v_(t-1)
  using Sums = MapSums<T, D>;
  Sums sums{sums_in_shared ? shared.take<T>(static_cast<int64_t>(chain.maps) * Sums::pitch) : nullptr,
            slots + static_cast<int64_t>(blockIdx.x) * chain.maps * Sums::elements, chain.maps};
  sums.clear();
  const MapTable<T, D> table = place_maps<T, D>(chain, shared);
  int* maps = shared.take<int>(lanes * index_pitch);  // (32, index_pitch)

  for (int64_t first = static_cast<int64_t>(blockIdx.x) * lanes; first < chain.sequences;
       first += static_cast<int64_t>(gridDim.x) * lanes) {
    const int rows = chain.sequences - first < lanes ? static_cast<int>(chain.sequences - first) : lanes;
    T adjoint[D] = {};

    for (int64_t t = (chain.length - 1) / steps * steps; t >= 0; t -= steps) {
      const int count = chain.length - t < steps ? static_cast<int>(chain.length - t) : steps;
      const int64_t corner = first * chain.length + t;
      __syncwarp();  // waits until the last tile has been read
      stage_index(chain, {corner, chain.length, rows, count, index_pitch}, maps, lane, lanes);
      stage_in(grad, size, {corner * D, chain.length * D, rows, count * D, pitch}, adjoints, lane, lanes);
      stage_in(points, size, {(corner - 1) * D, chain.length * D, rows, count * D, pitch}, previous, lane, lanes);
      __syncwarp();
      const int* mine = maps + lane * index_pitch;
      T* adjoint_row = adjoints + lane * pitch;   // (steps, D)
      T* previous_row = previous + lane * pitch;  // (steps, D)
      if (lane < rows) {
        if (t == 0)  // v_0 is not among the points
          for (int i = 0; i < D; ++i) previous_row[i] = chain.start[(first + lane) * D + i];
        auto part = table.linear_part(mine[count - 1]);
        for (int s = count - 1; s >= 0; --s) {
          const auto next = table.linear_part(mine[s > 0 ? s - 1 : 0]);
          for (int i = 0; i < D; ++i) adjoint_row[s * D + i] = adjoint[i] += adjoint_row[s * D + i];
          affine_adjoint_step<T, D>(part.entry, adjoint);
          part = next;
        }
      }
      for (int s = 0; s < count; ++s) {
        T before[D] = {}, after[D] = {};
        if (lane < rows)
          for (int i = 0; i < D; ++i) before[i] = previous_row[s * D + i], after[i] = adjoint_row[s * D + i];
        sums.add(lane < rows ? mine[s] : -1, after, before);
      }
    }
    if (lane < rows)
      for (int i = 0; i < D; ++i) grad_start[(first + lane) * D + i] = adjoint[i];
  }
  sums.flush();
}

}  // namespace fractalops::cuda
