// The gradient of the maps: dA[n] = sum of h_t v_(t-1)^T and db[n] = sum of h_t over the t with z_t = n, in the same
// order at every call.
#pragma once

#include "shared_memory.h"

namespace fractalops::cuda {

// One map's sums: (D, D + 1), the matrix's rows with the offset's entry behind each.
FRACTALOPS_HOST_DEVICE constexpr int sum_elements(int dimensions) { return dimensions * (dimensions + 1); }

// The sums of one warp. They grow in shared memory, in T, and are added to the warp's slot of the workspace, in double,
// before so many have come together that rounding shows. Where shared memory is too small, they go to the slot
// directly.
template <typename T, int D>
struct MapSums {
  static constexpr int elements = sum_elements(D);
  static constexpr int pitch = odd_pitch(elements);
  static constexpr int calls_between_flushes = 128;  // of add, each with at most 32 points

  T* table;      // (N, pitch) in shared memory, or null
  double* slot;  // (N, D, D + 1)
  int maps;
  int pending = 0;  // calls of add since the last flush

  // All lanes of the warp call it together, before the first add.
  __device__ void clear() {
    for_each_entry([&](int64_t entry, int64_t place) {
      slot[entry] = 0;
      if (table) table[place] = T(0);
    });
  }

  // Adds adjoint (previous, 1)^T of every lane to the sums of its map; a lane without a point says map = -1. All lanes
  // of the warp call it together.
  //
  // Who owns what: lanes with the same map add up among themselves first, in pairs of neighbors, then in pairs of
  // pairs, up to five times; the lowest of them then owns the map's row. So no address has two writers.
  __device__ void add(int map, const T (&adjoint)[D], const T (&previous)[D]) {
    T sum[elements];
    for (int i = 0; i < D; ++i) {
      for (int j = 0; j < D; ++j) sum[i * (D + 1) + j] = adjoint[i] * previous[j];
      sum[i * (D + 1) + D] = adjoint[i];
    }
    const int lane = threadIdx.x % lanes;
    const unsigned group = __match_any_sync(every_lane, map);
    const unsigned below = group & ((1u << lane) - 1);
    unsigned above = group & ~below & ~(1u << lane);  // those of the group whose sums are still to come
    for (int rank = __popc(below); __any_sync(every_lane, above != 0); rank /= 2) {
      const int next = above ? __ffs(above) - 1 : lane;
      for (int k = 0; k < elements; ++k) {
        const T other = __shfl_sync(every_lane, sum[k], next);
        if (above) sum[k] += other;
      }
      above &= __ballot_sync(every_lane, rank % 2 == 0);  // the odd ones are part of their neighbors now
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

  // Moves the table's sums to the slot. All lanes of the warp call it together, also after the last add.
  __device__ void flush() {
    pending = 0;
    if (!table) return;
    __syncwarp();
    for_each_entry([&](int64_t entry, int64_t place) {
      if (table[place] == T(0)) return;  // of many systems' maps, a warp meets few
      slot[entry] += static_cast<double>(table[place]);
      table[place] = T(0);
    });
    // The next add waits for the table.
  }

 private:
  // Who owns what: lane l owns the entries l, l + 32, ...
  template <typename Visit>
  __device__ void for_each_entry(const Visit& visit) {
    const int64_t entries = static_cast<int64_t>(maps) * elements;
#pragma unroll 1  // unrolled, it takes more registers than it is worth
    for (int64_t entry = threadIdx.x % lanes; entry < entries; entry += lanes)
      visit(entry, entry / elements * pitch + entry % elements);
  }
};

inline constexpr int slot_parts = 16;

// The slots' sums, in the slots' order, as the gradients.
//
// Who owns what: thread (x, y) of block b owns entry 32 b + x and adds up the slots y, y + 16, ...; thread (x, 0) then
// adds up the sixteen.
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
  const int64_t row = entry / (D + 1);  // of all maps' matrices: N * D of them
  const int column = entry % (D + 1);
  if (column < D)
    grad_matrix[row * D + column] = static_cast<T>(sum);
  else
    grad_offset[row] = static_cast<T>(sum);
}

}  // namespace fractalops::cuda
