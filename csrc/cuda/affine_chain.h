// The data of the affine chain's CUDA kernels: the chain's arrays, and the table of its maps.
#pragma once

#include "../affine.h"
#include "shared_memory.h"

namespace fractalops::cuda {

template <typename T>
struct AffineChain {
  const T* matrix;       // (N, D, D)
  const T* offset;       // (N, D); null in the backward, which does not read it
  const void* index;     // (B, T), uint8, int32 or int64
  const T* start;        // (B, D)
  int index_bytes;       // 1, 4 or 8
  int maps;              // N
  int64_t sequences;     // B
  int64_t length;        // T
  bool table_in_shared;  // whether a block copies the maps into shared memory
};

// The maps, in shared memory if they fit, else in global memory. Both are read through generic pointers, so that one
// kernel serves both cases. The sequential kernels load each map one step before they use it.
template <typename T, int D>
struct MapTable {
  const T* matrix;  // (N, D, D), rows matrix_pitch apart
  const T* offset;  // (N, D), rows offset_pitch apart
  int matrix_pitch, offset_pitch;

  __device__ AffineMap<T, D> map(int place) const {
    AffineMap<T, D> map;
    const T* from = matrix + static_cast<int64_t>(place) * matrix_pitch;
    for (int i = 0; i < D * D; ++i) map.matrix[i] = from[i];
    from = offset + static_cast<int64_t>(place) * offset_pitch;
    for (int i = 0; i < D; ++i) map.offset[i] = from[i];
    return map;
  }

  struct Matrix {
    T entry[D * D];
  };

  __device__ Matrix linear_part(int place) const {
    Matrix part;
    const T* from = matrix + static_cast<int64_t>(place) * matrix_pitch;
    for (int i = 0; i < D * D; ++i) part.entry[i] = from[i];
    return part;
  }
};

// The number of elements of a map in the table: matrix and offset, or only the matrix, because the backward reads
// nothing else.
FRACTALOPS_HOST_DEVICE constexpr int map_elements(int dimensions, bool with_offset) {
  return dimensions * dimensions + (with_offset ? dimensions : 0);
}

// Copies the maps into shared memory if `table_in_shared` is set. All threads of the block must call it, and
// synchronize before they read the table.
template <typename T, int D>
__device__ MapTable<T, D> place_maps(const AffineChain<T>& chain, SharedMemory& shared) {
  if (!chain.table_in_shared) return {chain.matrix, chain.offset, D * D, D};
  const int elements = map_elements(D, chain.offset != nullptr), pitch = odd_pitch(elements);
  T* table = shared.take<T>(static_cast<int64_t>(chain.maps) * pitch);  // (N, pitch)
  for (int i = threadIdx.x; i < chain.maps * elements; i += blockDim.x) {
    const int map = i / elements, place = i % elements;
    table[map * pitch + place] =
        place < D * D ? chain.matrix[map * D * D + place] : chain.offset[map * D + place - D * D];
  }
  return {table, table + D * D, pitch, pitch};
}

// shared <- rows of the index. An index out of range is replaced by the nearest map, so nothing outside the table is
// read.
template <typename T>
__device__ void stage_index(const AffineChain<T>& chain, const Rows& rows, int* shared, int thread, int threads) {
  const int64_t size = chain.sequences * chain.length;
  const int last = chain.maps - 1;
  const auto into_table = [last](int64_t map) { return static_cast<int>(map < 0 ? 0 : map > last ? last : map); };
  if (chain.index_bytes == 1)
    stage_in(static_cast<const uint8_t*>(chain.index), size, rows, shared, thread, threads, into_table);
  else if (chain.index_bytes == 4)
    stage_in(static_cast<const int32_t*>(chain.index), size, rows, shared, thread, threads, into_table);
  else
    stage_in(static_cast<const int64_t*>(chain.index), size, rows, shared, thread, threads, into_table);
}

}  // namespace fractalops::cuda
