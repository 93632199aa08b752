// A scan of affine maps over the threads of a block. Composition is associative, so runs of a chain can be composed
// side by side; it is not commutative, so everything here keeps their order.
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

// The composition of this lane's map with those of all lower lanes, which come before it. The last lane's is the
// warp's; it is left in shared memory, where all threads of the block may read it on return.
template <typename T, int D>
__device__ AffineMap<T, D> scan_warp(AffineMap<T, D> map, AffineMap<T, D>* warp_maps /* (warps), shared */) {
  const int lane = threadIdx.x % lanes;
  for (int distance = 1; distance < lanes; distance *= 2) {
    const AffineMap<T, D> earlier = shuffle_up(map, distance);
    if (lane >= distance) map = compose(map, earlier);
  }
  __syncthreads();  // nobody reads the maps of the last call any more
  if (lane == lanes - 1) warp_maps[threadIdx.x / lanes] = map;
  __syncthreads();
  return map;
}

// The block's maps, applied to `state` in the order of the threads: returns in `before` the state that this thread's
// map finds, and in `state` the one that the last thread's leaves. Every thread passes the same state.
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

// total <- the block's maps after total, in the order of the threads. Every thread passes the same total.
template <typename T, int D>
__device__ void scan_total(const AffineMap<T, D>& map, AffineMap<T, D>* warp_maps, AffineMap<T, D>& total) {
  scan_warp(map, warp_maps);
  const int warps = blockDim.x / lanes;
#pragma unroll 1
  for (int w = 0; w < warps; ++w) total = compose(warp_maps[w], total);
}

}  // namespace fractalops::cuda
