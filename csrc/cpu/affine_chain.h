// What the affine chain's CPU kernel works on, and how its backward splits the sequences.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "../affine.h"
#include "../division.h"
#include "with_constant.h"

namespace fractalops::cpu {

// Sequences that advance together: as many as the registers hold.
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

// The gradient of one map, in double: a long chain of float32 adds up to 10^6 terms a map.
template <int D>
struct alignas(64) MapGradient {
  double matrix[D][D];
  double offset[D];
  double weight;  // the sum of what belongs to the map's points, where that is given

  MapGradient& operator+=(const MapGradient& other) {
    for (int i = 0; i < D; ++i) {
      for (int j = 0; j < D; ++j) matrix[i][j] += other.matrix[i][j];
      offset[i] += other.offset[i];
    }
    weight += other.weight;
    return *this;
  }
};

// What the backward of a chain reads and writes besides the chain.
template <typename T, int D>
struct ChainGradients {
  const T* grad;              // (B, T, D)
  const T* points;            // (B, T, D)
  MapGradient<D>* maps;       // (N), added to
  T* start;                   // (B, D)
  const T* end = nullptr;     // (B, D): of the last points, from whatever follows them; null for nothing
  const T* weight = nullptr;  // (B, T): of the points' weights, which are summed for each map; null for none

  // The same of the points from this one on.
  ChainGradients from(int64_t point) const {
    ChainGradients rest = *this;
    rest.grad += point * D;
    rest.points += point * D;
    if (weight != nullptr) rest.weight += point;
    return rest;
  }
};

// The backward sums over blocks of sequences whose number depends on shapes only, so that the result does not depend on
// the number of threads. A block's table must cost less to clear and add than its sequences.
template <typename T, int D>
int64_t affine_chain_blocks(int64_t maps, int64_t sequences, int64_t length) {
  const int64_t by_sequences = divide_up(sequences, chain_lanes<T, D>);
  const int64_t by_work = sequences * length / std::max<int64_t>(maps, 1);
  return std::clamp<int64_t>(std::min(by_sequences, by_work), 1, 64);
}

// The first sequence of a block: blocks hold whole groups of lanes, but for the last one.
template <typename T, int D>
int64_t affine_chain_block_begin(int64_t block, int64_t blocks, int64_t sequences) {
  const int64_t groups = divide_up(sequences, chain_lanes<T, D>);
  return std::min(sequences, groups * block / blocks * chain_lanes<T, D>);
}

// The position of an index outside [0, maps), or -1 when all lie inside.
template <typename Index>
int64_t find_outside(const Index* index, int64_t count, int64_t maps) {
  using Unsigned = std::make_unsigned_t<Index>;
  constexpr int64_t block = 4096;
  for (int64_t begin = 0; begin < count; begin += block) {
    const int64_t end = std::min(count, begin + block);
    Unsigned largest = 0;  // a negative index is huge as an unsigned one
    for (int64_t i = begin; i < end; ++i) largest = std::max(largest, static_cast<Unsigned>(index[i]));
    if (static_cast<uint64_t>(largest) < static_cast<uint64_t>(maps)) continue;
    for (int64_t i = begin; i < end; ++i)
      if (static_cast<Unsigned>(index[i]) == largest) return i;
  }
  return -1;
}

// Throws std::out_of_range for an index outside [0, maps). torch hands it to Python as an IndexError, as it does a
// STD_TORCH_CHECK's as a RuntimeError.
template <typename Index>
void check_inside(const char* op, const Index* index, int64_t count, int64_t maps) {
  const int64_t outside = find_outside(index, count, maps);
  if (outside >= 0)
    throw std::out_of_range(std::string(op) + ": index must lie in [0, " + std::to_string(maps) + "), got " +
                            std::to_string(index[outside]));
}

}  // namespace fractalops::cpu
