// The data of the affine chain's CPU kernels, how the backward splits the sequences, and the check of the index's
// range.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "../affine.h"
#include "../division.h"

namespace fractalops::cpu {

// The number of sequences that advance together: as many as fit into the registers.
template <typename T, int D>
inline constexpr int chain_lanes = std::is_same_v<T, float> && D == 2 ? 5 : 4;
inline constexpr int compose_lanes = 5;

template <typename T, typename Index>
struct AffineChain {
  const T* matrix;     // (N, D, D)
  const T* offset;     // (N, D)
  const Index* index;  // (B, T), in [0, N)
  const T* start;      // (B, D)
  int64_t maps;        // N
  int64_t sequences;   // B
  int64_t length;      // T
};

// The gradient of one map. It is in double, because a long float32 chain adds up to 10^6 terms per map.
template <int D>
struct alignas(64) MapGradient {
  double matrix[D][D];
  double offset[D];
  double weight;  // sum of the gradients of the weights of the map's points, if they are given

  MapGradient& operator+=(const MapGradient& other) {
    for (int i = 0; i < D; ++i) {
      for (int j = 0; j < D; ++j) matrix[i][j] += other.matrix[i][j];
      offset[i] += other.offset[i];
    }
    weight += other.weight;
    return *this;
  }
};

// The arrays that the backward of a chain reads and writes, in addition to the chain.
template <typename T, int D>
struct ChainGradients {
  const T* grad;              // (B, T, D)
  const T* points;            // (B, T, D)
  MapGradient<D>* maps;       // (N), added to
  T* start;                   // (B, D)
  const T* end = nullptr;     // (B, D): gradients of the last points from later computations; null for zeros
  const T* weight = nullptr;  // (B, T): gradients of the points' weights, which are summed by map; null for none

  // Returns the same gradients from this point on.
  ChainGradients from(int64_t point) const {
    ChainGradients rest = *this;
    rest.grad += point * D;
    rest.points += point * D;
    if (weight != nullptr) rest.weight += point;
    return rest;
  }
};

// Returns the number of blocks of sequences over which the backward sums. It depends on shapes only, so that the result
// does not depend on the number of threads. A block's table must cost less to clear and add than its sequences.
template <typename T, int D>
int64_t affine_chain_blocks(int64_t maps, int64_t sequences, int64_t length) {
  const int64_t by_sequences = divide_up(sequences, chain_lanes<T, D>);
  const int64_t by_work = sequences * length / std::max<int64_t>(maps, 1);
  return std::clamp<int64_t>(std::min(by_sequences, by_work), 1, 64);
}

// Returns the first sequence of a block. All blocks except the last one have whole groups of lanes.
template <typename T, int D>
int64_t affine_chain_block_begin(int64_t block, int64_t blocks, int64_t sequences) {
  const int64_t groups = divide_up(sequences, chain_lanes<T, D>);
  return std::min(sequences, groups * block / blocks * chain_lanes<T, D>);
}

// Returns the position of an index outside [0, maps), or -1 if there is none.
template <typename Index>
int64_t find_outside(const Index* index, int64_t count, int64_t maps) {
  using Unsigned = std::make_unsigned_t<Index>;
  constexpr int64_t block = 4096;
  for (int64_t begin = 0; begin < count; begin += block) {
    const int64_t end = std::min(count, begin + block);
    Unsigned largest = 0;  // a negative index is a very large unsigned one
    for (int64_t i = begin; i < end; ++i) largest = std::max(largest, static_cast<Unsigned>(index[i]));
    if (static_cast<uint64_t>(largest) < static_cast<uint64_t>(maps)) continue;
    for (int64_t i = begin; i < end; ++i)
      if (static_cast<Unsigned>(index[i]) == largest) return i;
  }
  return -1;
}

// Throws std::out_of_range for an index outside [0, maps). torch raises it in Python as an IndexError, and a failed
// STD_TORCH_CHECK as a RuntimeError.
template <typename Index>
void check_inside(const char* op, const Index* index, int64_t count, int64_t maps) {
  const int64_t outside = find_outside(index, count, maps);
  if (outside >= 0)
    throw std::out_of_range(std::string(op) + ": index must lie in [0, " + std::to_string(maps) + "), got " +
                            std::to_string(index[outside]));
}

}  // namespace fractalops::cpu
