// A scan of affine maps over the threads of a block. Composition is associative, so parts of a chain can be composed in
// parallel. It is not commutative, so all functions here preserve the order of the maps.
#pragma once

#include "../affine.h"
#include "shared_memory.h"

namespace fractalops::cuda {

template <typename T, int D>
__device__ AffineMap<T, D> shuffle_up(const AffineMap<T, D>& map, int distance) {
  AffineMap<T, D> other;
  for (int i = 0; i < D * D; ++i) other.matrix[i] = __shfl_up_sync(every_lane, map.matrix[i], distance);
  for (int i = 0; i < D; ++i) other.offset[i] = __shfl_up_sync(every_lane, map.offset[i], distance);
  return other;
}

// Returns the composition of this lane's map with the maps of all lower lanes, which are applied first. The last lane's
// result is the composition of the warp. It is in shared memory on return, where all threads of the block may read it.
template <typename T, int D>
__device__ AffineMap<T, D> scan_warp(AffineMap<T, D> map, AffineMap<T, D>* warp_maps /* (warps), shared */) {
  const int lane = threadIdx.x % lanes;
  for (int distance = 1; distance < lanes; distance *= 2) {
    const AffineMap<T, D> earlier = shuffle_up(map, distance);
    if (lane >= distance) map = compose(map, earlier);
  }
  __syncthreads();  // no thread reads the maps of the last call any more
  if (lane == lanes - 1) warp_maps[threadIdx.x / lanes] = map;
  __syncthreads();
  return map;
}

// Applies the block's maps to `state` in the order of the threads. Returns in `before` the state before this thread's
// map, and in `state` the state after the last thread's map. All threads must pass the same state.
template <typename T, int D>
__device__ void scan_states(const AffineMap<T, D>& map, AffineMap<T, D>* warp_maps, T (&state)[D], T (&before)[D]) {
  const AffineMap<T, D> earlier = shuffle_up(scan_warp(map, warp_maps), 1);
  const int warps = blockDim.x / lanes, warp = threadIdx.x / lanes;
#pragma unroll 1
  for (int w = 0; w < warps; ++w) {
    if (w == warp)
      for (int i = 0; i < D; ++i) before[i] = state[i];
    apply(warp_maps[w], state);
  }
  if (threadIdx.x % lanes > 0) apply(earlier, before);
}

// total <- the composition of total and the block's maps, which follow in the order of the threads. All threads must
// pass the same total.
template <typename T, int D>
__device__ void scan_total(const AffineMap<T, D>& map, AffineMap<T, D>* warp_maps, AffineMap<T, D>& total) {
  scan_warp(map, warp_maps);
  const int warps = blockDim.x / lanes;
#pragma unroll 1
  for (int w = 0; w < warps; ++w) total = compose(warp_maps[w], total);
}

}  // namespace fractalops::cuda
