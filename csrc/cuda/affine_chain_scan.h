// The affine chain for few, long sequences. A parallel scan over time composes the maps. It gives each thread the state
// before its own few steps, which the thread then computes one by one. The scan form takes more arithmetic than the
// sequential form and has many more threads to do it.
//
// Ownership, in all kernels except scan_link: a sequence is split into chunks. A block owns one chunk at a time and
// processes it tile by tile. In a tile, the thread of rank r owns the run of steps r * run to r * run + run - 1:
//
//   sequence  |      chunk 0      |      chunk 1      |  ...       one block each
//   chunk     | tile | tile | tile |                               one after the other
//   tile      | run of thread 0 | run of thread 1 | ...            in parallel
//
// If a sequence has more than one chunk, scan_compose computes the composition of each chunk's maps, and scan_link the
// state before each chunk. Each chunk is then processed like a sequence. The adjoint (Adjoint = true) uses the same
// code with two differences: its ranks count from the end, and its maps are those of adjoint_map in affine.h.
#pragma once

#include "affine_chain.h"
#include "scan.h"
#include "sum_by_map.h"

namespace fractalops::cuda {

inline constexpr int scan_run = 5;  // steps per thread; odd, so that the elements of the runs are in different banks
inline constexpr int scan_warps = 4;
inline constexpr int scan_threads = scan_warps * lanes;  // maximum

// How the sequences are split. The length of a chunk is a multiple of the largest tile, except for a sequence's last
// chunk.
struct Chunks {
  int64_t count;   // per sequence
  int64_t length;  // steps per chunk
};

// A block's iteration over the tiles of a chunk, and this thread's run in the current tile.
template <bool Adjoint>
struct Tile {
  int64_t sequence, begin, end;  // the chunk's steps are [begin, end) of [0, T)
  int64_t first = 0;             // first step of the tile
  int count = 0;                 // number of steps in the tile

  __device__ Tile(int64_t item, const Chunks& chunks, int64_t length)
      : sequence(item / chunks.count), begin(item % chunks.count * chunks.length), end(begin + chunks.length) {
    if (end > length) end = length;
  }

  // Moves to the next tile: forward from the chunk's start or, for the adjoint, backward from its end. Returns false if
  // there is none.
  __device__ bool next() {
    const int64_t largest = static_cast<int64_t>(blockDim.x) * scan_run;
    const int64_t left = count == 0 ? end - begin : Adjoint ? first - begin : end - (first + count);
    if (left == 0) return false;
    const int64_t step = left < largest ? left : largest;
    first = Adjoint ? begin + left - step : end - left;
    count = static_cast<int>(step);
    return true;
  }

  // Returns the index in the tile of this thread's k-th step in processing order, or -1 if the tile has no such step.
  __device__ int place(int k) const {
    const int rank = static_cast<int>(threadIdx.x) * scan_run + k;
    return rank >= count ? -1 : Adjoint ? count - 1 - rank : rank;
  }
};

// Returns the composition of this thread's run.
template <typename T, int D, bool Adjoint>
__device__ AffineMap<T, D> compose_run(const Tile<Adjoint>& tile, const MapTable<T, D>& table,
                                       const int* maps /* (tile) */, const T* grads /* (tile, D); adjoint only */) {
  const auto step = [&](int place) {
    if constexpr (Adjoint)
      return adjoint_map<T, D>(table.linear_part(maps[place]).entry, grads + place * D);
    else
      return table.map(maps[place]);
  };
  if (tile.place(0) < 0) return identity_map<T, D>();
  AffineMap<T, D> run = step(tile.place(0));
  for (int k = 1; k < scan_run; ++k)
    if (tile.place(k) >= 0) run = compose(step(tile.place(k)), run);
  return run;
}

// totals[sequence, chunk] = the composition of the chunk's maps. A block owns one chunk, a thread its run of each tile
// (diagram above). choose_chunks makes at most 1024 chunks, so the grid needs no loop.
//
// Budget: 72 registers (float32), 80 (float64).
// Shared memory: 10,432 bytes (float32), 18,304 (float64), plus the maps if they fit.
template <typename T, int D, bool Adjoint>
__global__ void __launch_bounds__(scan_threads)
    affine_chain_scan_compose(AffineChain<T> chain, Chunks chunks, const T* grad /* (B, T, D); adjoint only */,
                              AffineMap<T, D>* totals /* (B, chunks) */) {
  const int tile_length = blockDim.x * scan_run;
  SharedMemory shared;
  auto* warp_maps = shared.take<AffineMap<T, D>>(scan_warps);
  T* grads = Adjoint ? shared.take<T>(tile_length * D) : nullptr;  // (tile, D)
  const MapTable<T, D> table = place_maps<T, D>(chain, shared);
  int* maps = shared.take<int>(tile_length);  // (tile)

  AffineMap<T, D> total = identity_map<T, D>();
  for (Tile<Adjoint> tile(blockIdx.x, chunks, chain.length); tile.next();) {
    const int64_t corner = tile.sequence * chain.length + tile.first;
    stage_index(chain, {corner, 0, 1, tile.count, 0}, maps, threadIdx.x, blockDim.x);
    if (Adjoint)
      stage_in(grad, chain.sequences * chain.length * D, {corner * D, 0, 1, tile.count * D, 0}, grads, threadIdx.x,
               blockDim.x);
    __syncthreads();
    scan_total(compose_run<T, D>(tile, table, maps, grads), warp_maps, total);  // all threads have now read the tile
  }
  if (threadIdx.x == 0) totals[blockIdx.x] = total;
}

// states[sequence, chunk] = the state with which the chunk starts. A block owns one sequence. In it, thread r owns the
// chunks r, r + blockDim.x, ... in processing order.
//
// Budget: 56 registers (float32), 88 (float64).
// Shared memory: 192 bytes (float32), 384 (float64).
template <typename T, int D, bool Adjoint>
__global__ void __launch_bounds__(scan_threads)
    affine_chain_scan_link(int64_t chunks, const AffineMap<T, D>* totals /* (B, chunks) */,
                           const T* start /* (B, D), or null for zeros */, T* states /* (B, chunks, D) */) {
  SharedMemory shared;
  auto* warp_maps = shared.take<AffineMap<T, D>>(scan_warps);
  const int64_t sequence = blockIdx.x;
  T state[D], before[D];
  for (int i = 0; i < D; ++i) state[i] = start ? start[sequence * D + i] : T(0);
  for (int64_t first = 0; first < chunks; first += blockDim.x) {
    const int64_t rank = first + threadIdx.x;
    const int64_t place = sequence * chunks + (Adjoint ? chunks - 1 - rank : rank);
    scan_states(rank < chunks ? totals[place] : identity_map<T, D>(), warp_maps, state, before);
    if (rank < chunks)
      for (int i = 0; i < D; ++i) states[place * D + i] = before[i];
  }
}

// A block owns one chunk at a time, a thread its run of each tile (diagram above).
//
// Budget: 72 registers (float32), 80 (float64).
// Shared memory: 10,432 bytes (float32), 18,304 (float64), plus the maps if they fit.
template <typename T, int D>
__global__ void __launch_bounds__(scan_threads)
    affine_chain_forward_scan(AffineChain<T> chain, Chunks chunks, const T* states /* (B, chunks, D) */,
                              T* points /* (B, T, D) */) {
  const int tile_length = blockDim.x * scan_run;
  SharedMemory shared;
  auto* warp_maps = shared.take<AffineMap<T, D>>(scan_warps);
  T* tile_points = shared.take<T>(tile_length * D);  // (tile, D)
  const MapTable<T, D> table = place_maps<T, D>(chain, shared);
  int* maps = shared.take<int>(tile_length);  // (tile)

  for (int64_t item = blockIdx.x; item < chain.sequences * chunks.count; item += gridDim.x) {
    T state[D], point[D];
    for (int i = 0; i < D; ++i) state[i] = states[item * D + i];
    for (Tile<false> tile(item, chunks, chain.length); tile.next();) {
      const int64_t corner = tile.sequence * chain.length + tile.first;
      stage_index(chain, {corner, 0, 1, tile.count, 0}, maps, threadIdx.x, blockDim.x);
      __syncthreads();
      scan_states(compose_run<T, D>(tile, table, maps, nullptr), warp_maps, state, point);
      for (int k = 0; k < scan_run; ++k) {
        const int place = tile.place(k);
        if (place < 0) continue;
        apply(table.map(maps[place]), point);
        for (int i = 0; i < D; ++i) tile_points[place * D + i] = point[i];
      }
      __syncthreads();
      stage_out(points, {corner * D, 0, 1, tile.count * D, 0}, tile_points, threadIdx.x, blockDim.x);
    }
  }
}

// As in the sequential form, the tile of upstream gradients is overwritten by adjoints, which are summed by map and
// then discarded. A block owns one chunk at a time, a thread its run of each tile (diagram above). The first `adders`
// warps compute the sums; each owns every adders-th group of 32 steps. sum_by_map.h says which lane owns a sum.
//
// Budget: 128 registers, so that four blocks share a multiprocessor.
// Shared memory: 18,112 bytes (float32), 33,664 (float64), plus sums and maps if they fit.
template <typename T, int D>
__global__ void __launch_bounds__(scan_threads, 4)
    affine_chain_backward_scan(AffineChain<T> chain, Chunks chunks, const T* grad /* (B, T, D) */,
                               const T* points /* (B, T, D) */, const T* states /* (B, chunks, D), or null for zeros */,
                               double* slots /* (blocks, adders, N, D, D + 1) */, int adders, bool sums_in_shared,
                               T* grad_start /* (B, D) */) {
  const int tile_length = blockDim.x * scan_run;
  const int64_t size = chain.sequences * chain.length * D;
  const int lane = threadIdx.x % lanes, warp = threadIdx.x / lanes;
  SharedMemory shared;
  auto* warp_maps = shared.take<AffineMap<T, D>>(scan_warps);
  T* adjoints = shared.take<T>(tile_length * D);  // (tile, D): g_t, then h_t
  T* previous = shared.take<T>(tile_length * D);  // (tile, D): v_(t-1)
  using Sums = MapSums<T, D>;
  const int64_t table_size = static_cast<int64_t>(chain.maps) * Sums::pitch;
  T* sum_tables = sums_in_shared ? shared.take<T>(adders * table_size) : nullptr;  // (adders, N, pitch)
  const MapTable<T, D> table = place_maps<T, D>(chain, shared);
  int* maps = shared.take<int>(tile_length);  // (tile)
  Sums sums{sum_tables ? sum_tables + warp * table_size : nullptr,
            slots + (static_cast<int64_t>(blockIdx.x) * adders + warp) * chain.maps * Sums::elements, chain.maps};
  if (warp < adders) sums.clear();

  for (int64_t item = blockIdx.x; item < chain.sequences * chunks.count; item += gridDim.x) {
    T state[D], adjoint[D];
    for (int i = 0; i < D; ++i) state[i] = states ? states[item * D + i] : T(0);
    Tile<true> tile(item, chunks, chain.length);
    while (tile.next()) {
      const int64_t corner = tile.sequence * chain.length + tile.first;
      __syncthreads();  // waits until the last tile has been read
      stage_index(chain, {corner, 0, 1, tile.count, 0}, maps, threadIdx.x, blockDim.x);
      stage_in(grad, size, {corner * D, 0, 1, tile.count * D, 0}, adjoints, threadIdx.x, blockDim.x);
      stage_in(points, size, {(corner - 1) * D, 0, 1, tile.count * D, 0}, previous, threadIdx.x, blockDim.x);
      __syncthreads();
      if (tile.first == 0 && threadIdx.x == 0)  // v_0 is not among the points
        for (int i = 0; i < D; ++i) previous[i] = chain.start[tile.sequence * D + i];
      scan_states(compose_run<T, D>(tile, table, maps, adjoints), warp_maps, state, adjoint);
      for (int k = 0; k < scan_run; ++k) {
        const int place = tile.place(k);
        if (place < 0) continue;
        for (int i = 0; i < D; ++i) adjoints[place * D + i] = adjoint[i] += adjoints[place * D + i];
        affine_adjoint_step<T, D>(table.linear_part(maps[place]).entry, adjoint);
      }
      __syncthreads();
      if (warp < adders)
        for (int group = warp * lanes; group < tile.count; group += adders * lanes) {
          const int place = group + lane;
          T before[D] = {}, after[D] = {};
          if (place < tile.count)
            for (int i = 0; i < D; ++i) before[i] = previous[place * D + i], after[i] = adjoints[place * D + i];
          sums.add(place < tile.count ? maps[place] : -1, after, before);
        }
    }
    if (tile.begin == 0 && threadIdx.x == 0)
      for (int i = 0; i < D; ++i) grad_start[tile.sequence * D + i] = state[i];
  }
  if (warp < adders) sums.flush();
}

}  // namespace fractalops::cuda
