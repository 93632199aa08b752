// The gradients of the maps: dA[n] = sum of h_t v_(t-1)^T and db[n] = sum of h_t over all t with z_t = n. The order of
// the additions is the same in every call.
#pragma once

#include "shared_memory.h"

namespace fractalops::cuda {

// The number of sums of one map. They are (D, D + 1): the rows of the matrix, each followed by the offset's entry.
FRACTALOPS_HOST_DEVICE constexpr int sum_elements(int dimensions) { return dimensions * (dimensions + 1); }

// The sums of one warp. They are accumulated in shared memory, in T. Before they have so many terms that rounding is
// noticeable, they are added to the warp's slot of the workspace, in double. If shared memory is too small, all terms
// are added to the slot directly.
template <typename T, int D>
struct MapSums {
  static constexpr int elements = sum_elements(D);
  static constexpr int pitch = odd_pitch(elements);
  static constexpr int calls_between_flushes = 128;  // calls of add, each with at most 32 points

  T* table;      // (N, pitch) in shared memory, or null
  double* slot;  // (N, D, D + 1)
  int maps;
  int pending = 0;  // calls of add since the last flush

  // Clears the sums. All lanes of the warp must call it together, before the first add.
  __device__ void clear() {
    for_each_entry([&](int64_t entry, int64_t place) {
      slot[entry] = 0;
      if (table) table[place] = T(0);
    });
  }

  // Adds adjoint (previous, 1)^T of every lane to the sums of its map. A lane without a point passes map = -1. All
  // lanes of the warp must call it together.
  //
  // Ownership: lanes with the same map first add up their terms, in pairs of neighbors, then in pairs of pairs, up to
  // five times. The lowest of these lanes then owns the map's row. So no address has two writers.
  __device__ void add(int map, const T (&adjoint)[D], const T (&previous)[D]) {
    T sum[elements];
    for (int i = 0; i < D; ++i) {
      for (int j = 0; j < D; ++j) sum[i * (D + 1) + j] = adjoint[i] * previous[j];
      sum[i * (D + 1) + D] = adjoint[i];
    }
    const int lane = threadIdx.x % lanes;
    const unsigned group = __match_any_sync(every_lane, map);
    const unsigned below = group & ((1u << lane) - 1);
    unsigned above = group & ~below & ~(1u << lane);  // lanes of the group whose sums are still to be added
    for (int rank = __popc(below); __any_sync(every_lane, above != 0); rank /= 2) {
      const int next = above ? __ffs(above) - 1 : lane;
      for (int k = 0; k < elements; ++k) {
        const T other = __shfl_sync(every_lane, sum[k], next);
        if (above) sum[k] += other;
      }
      above &= __ballot_sync(every_lane, rank % 2 == 0);  // the odd ones have been added to their neighbors
    }
    __syncwarp();  // the rows that another lane owned in the last call are in memory
    if (map >= 0 && below == 0)
      for (int k = 0; k < elements; ++k) {
        if (table)
          table[map * pitch + k] += sum[k];
        else
          slot[static_cast<int64_t>(map) * elements + k] += static_cast<double>(sum[k]);
      }
    if (++pending == calls_between_flushes) flush();
  }

  // Moves the table's sums to the slot. All lanes of the warp must call it together, and also after the last add.
  __device__ void flush() {
    pending = 0;
    if (!table) return;
    __syncwarp();
    for_each_entry([&](int64_t entry, int64_t place) {
      if (table[place] == T(0)) return;  // with many systems, a warp has points of few maps
      slot[entry] += static_cast<double>(table[place]);
      table[place] = T(0);
    });
    // The next add synchronizes before it uses the table.
  }

 private:
  // Ownership: lane l owns the entries l, l + 32, ...
  template <typename Visit>
  __device__ void for_each_entry(const Visit& visit) {
    const int64_t entries = static_cast<int64_t>(maps) * elements;
#pragma unroll 1  // unrolling costs more registers than it is worth
    for (int64_t entry = threadIdx.x % lanes; entry < entries; entry += lanes)
      visit(entry, entry / elements * pitch + entry % elements);
  }
};

inline constexpr int slot_parts = 16;

// Adds up the slots, always in the same order, and writes the gradients.
//
// Ownership: thread (x, y) of block b owns entry 32 b + x and adds up the slots y, y + 16, ... Thread (x, 0) then adds
// up the sixteen partial sums.
//
// Budget: 56 registers.
// Shared memory: 4,096 bytes.
template <typename T, int D>
__global__ void __launch_bounds__(lanes* slot_parts)
    sum_slots(const double* slots /* (slots, N, D, D + 1) */, int64_t count, int maps, T* grad_matrix /* (N, D, D) */,
              T* grad_offset /* (N, D) */) {
  double (*parts)[lanes] = reinterpret_cast<double (*)[lanes]>(dynamic_shared);  // (16, 32)
  const int64_t entries = static_cast<int64_t>(maps) * sum_elements(D);
  const int64_t entry = static_cast<int64_t>(blockIdx.x) * lanes + threadIdx.x;
  double sum = 0;
  if (entry < entries)
    for (int64_t slot = threadIdx.y; slot < count; slot += slot_parts) sum += slots[slot * entries + entry];
  parts[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || entry >= entries) return;
  for (int part = 1; part < slot_parts; ++part) sum += parts[part][threadIdx.x];
  const int64_t row = entry / (D + 1);  // row of all maps' matrices, N * D in total
  const int column = entry % (D + 1);
  if (column < D)
    grad_matrix[row * D + column] = static_cast<T>(sum);
  else
    grad_offset[row] = static_cast<T>(sum);
}

}  // namespace fractalops::cuda
