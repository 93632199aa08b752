// Kernels that draw balanced sequences on a GPU. fractalops/reference/draw_balanced_index.py defines the rule and the
// deficits of maps after a context (`owed`). Each point depends on the point before it. So a warp draws a sequence
// point by point, and its lanes share the maps.
//
// Ownership, in both kernels: a block is one warp. Lane l owns the maps l, l + 32, l + 64, ...: their shares, and their
// deficits after every context. So neighboring lanes access neighboring words, and no lane reads the counts of another
// lane:
//
//   lane             0      1    ...    31     0      1   ...
//   share        | p_0  | p_1  | ... | p_31 | p_32 | ...            of the sequence's system
//   d = 1, row 0 | owed | owed | ... | owed | owed | ...            after map 0
//          row 1 | owed | owed | ... | owed | owed | ...            after map 1
//     ...
//   d = D, row r | owed | owed | ... | owed | owed | ...            after the D maps that are r's digits in base N
//
// In addition, lane d - 1 holds the row number of the last d maps. For every 32 points, lane l holds the l-th random
// number, and then the l-th map.
#pragma once

#include <cmath>

#include "../balanced_counts.h"
#include "shared_memory.h"

namespace fractalops::cuda {

// sum <- sum + the values of the first `count` lanes, added in the order of the lanes, as on the CPU, for the same
// bits. Returns the sum up to and including this lane's value.
__device__ inline double add_in_order(double value, int count, double& sum) {
  const int lane = threadIdx.x;
  double mine = sum;
#pragma unroll 1
  for (int other = 0; other < count; ++other) {
    sum += __shfl_sync(every_lane, value, other);
    if (other == lane) mine = sum;
  }
  return mine;
}

// Returns the sum of the values of this lane and all lower lanes.
__device__ inline int64_t sum_of_lower(int64_t value) {
  const int lane = threadIdx.x;
  for (int distance = 1; distance < lanes; distance *= 2) {
    const int64_t lower = __shfl_up_sync(every_lane, value, distance);
    if (lane >= distance) value += lower;
  }
  return value;
}

// The probabilities of the maps, as multiples of 1 / balanced_unit. A system's shares add up to balanced_unit. A block
// owns one system at a time.
//
// Budget: 48 registers.
// Shared memory: 0 bytes.
__global__ void __launch_bounds__(lanes)
    draw_balanced_index_shares(const double* weight /* (S, N) */, int64_t systems, int maps, double floor,
                               int32_t* share /* (S, N) */) {
  const int lane = threadIdx.x;
  for (int64_t system = blockIdx.x; system < systems; system += gridDim.x) {
    const double* weights = weight + system * maps;  // (N)
    const auto for_each_32_maps = [&](const auto& run) {
      for (int first = 0; first < maps; first += lanes) run(first + lane, maps - first < lanes ? maps - first : lanes);
    };
    double total = 0, raised = 0, below = 0;
    for_each_32_maps([&](int map, int count) { add_in_order(lane < count ? weights[map] : 0, count, total); });
    const bool usable = total > 0 && total < HUGE_VAL;  // false if a weight is NaN
    const auto floored_share = [&](int map, int count) {
      const double exact = usable && lane < count ? weights[map] / total : 1.0 / maps;
      return exact < floor ? floor : exact;
    };
    for_each_32_maps([&](int map, int count) { add_in_order(floored_share(map, count), count, raised); });
    int last_bound = 0;
    for_each_32_maps([&](int map, int count) {
      const double reached = add_in_order(floored_share(map, count), count, below);
      const int bound = static_cast<int>(rint(reached / raised * balanced_unit));
      const int lower = __shfl_up_sync(every_lane, bound, 1);
      if (lane < count) share[system * maps + map] = bound - (lane > 0 ? lower : last_bound);
      last_bound = __shfl_sync(every_lane, bound, count - 1);
    });
  }
}

// The arrays and sizes of one draw.
template <typename T, typename Index>
struct BalancedSequences {
  const int32_t* share;       // (S, N)
  const T* uniform;           // (S, K, T)
  Index* index;               // (S, K, T)
  int32_t* counts_in_global;  // (blocks, counts); null if a block's counts are in shared memory
  int64_t sequences;          // S K
  int64_t of_a_system;        // K
  int64_t points;             // T
  int maps;                   // N
  int depth;                  // D
  int counts;                 // N^2 + ... + N^(D + 1)
};

// The contexts of one sequence.
struct BalancedContexts {
  const int32_t* share;  // (N)
  int32_t* owed;         // (counts): the deficits, tables (N^d, N) of d = 1 to D, one after the other
  int maps, depth;
  int table = 0;    // in lane d - 1: start of the table of d
  int context = 0;  // in lane d - 1: the last d maps, as digits in base N

  __device__ BalancedContexts(const int32_t* share, int32_t* owed, int maps, int depth)
      : share(share), owed(owed), maps(maps), depth(depth) {
    int size = maps;
    for (int d = 1; d < depth && d <= static_cast<int>(threadIdx.x); ++d) table += size *= maps;
  }

  // Returns the start of the current row in the table of d.
  __device__ int row(int d) const { return __shfl_sync(every_lane, table + context * maps, d - 1); }

  // Returns the share of one of this lane's maps plus its deficits, at least 0; 0 past the last map.
  __device__ int due(int map) const {
    int sum = map < maps ? share[map] : 0;
#pragma unroll 1
    for (int d = 1; d <= depth; ++d) {
      const int begin = row(d);
      if (map < maps) sum += owed[begin + map];
    }
    return sum > 0 ? sum : 0;
  }

  // Returns the next map for a random number in [0, 1).
  __device__ int draw(double uniform) const {
    const int lane = threadIdx.x;
    int64_t reached = 0;
#pragma unroll 1
    for (int first = 0; first < maps; first += lanes) reached += due(first + lane);
    reached = sum_of_lower(reached);  // final for up to 32 maps
    const int64_t total = __shfl_sync(every_lane, reached, lanes - 1);
    const int64_t scaled = static_cast<int64_t>(uniform * static_cast<double>(total));
    const int64_t wanted = scaled < total ? scaled : total - 1;
    if (maps > lanes) reached = sum_of_lower(due(lane));
    int first = 0;
    unsigned below;
#pragma unroll 1
    while ((below = __ballot_sync(every_lane, reached <= wanted)) == every_lane) {  // ends: the last map reaches total
      first += lanes;
      reached = __shfl_sync(every_lane, reached, lanes - 1);
      reached += sum_of_lower(due(first + lane));
    }
    return first + __popc(below);
  }

  // Updates the counts: all current contexts have occurred once more, and map `drawn` followed.
  __device__ void follow(int drawn) {
    const int lane = threadIdx.x;
#pragma unroll 1
    for (int d = 1; d <= depth; ++d) {
      const int begin = row(d);
      for (int map = lane; map < maps; map += lanes)
        owed[begin + map] += share[map] - (map == drawn ? balanced_unit : 0);
    }
    const int shorter = __shfl_up_sync(every_lane, context, 1);
    if (lane < depth) context = (lane > 0 ? shorter * maps : 0) + drawn;
  }
};

// A block owns one sequence at a time (diagram above).
//
// Budget: 56 registers.
// Shared memory: 0 bytes, plus the counts if they fit.
template <typename T, typename Index>
__global__ void __launch_bounds__(lanes) draw_balanced_index_sequences(BalancedSequences<T, Index> draws) {
  const int lane = threadIdx.x;
  int32_t* owed = draws.counts_in_global != nullptr
                      ? draws.counts_in_global + static_cast<int64_t>(blockIdx.x) * draws.counts
                      : SharedMemory().take<int32_t>(draws.counts);
  for (int64_t sequence = blockIdx.x; sequence < draws.sequences; sequence += gridDim.x) {
    for (int i = lane; i < draws.counts; i += lanes) owed[i] = 0;
    __syncwarp();  // each lane has cleared counts of other lanes
    BalancedContexts contexts(draws.share + sequence / draws.of_a_system * draws.maps, owed, draws.maps, draws.depth);
    const T* uniforms = draws.uniform + sequence * draws.points;  // (T)
    Index* index = draws.index + sequence * draws.points;         // (T)
    for (int64_t first = 0; first < draws.points; first += lanes) {
      const int count = draws.points - first < lanes ? static_cast<int>(draws.points - first) : lanes;
      const T uniform = lane < count ? uniforms[first + lane] : T(0);
      int mine = 0;
#pragma unroll 1
      for (int step = 0; step < count; ++step) {
        const int drawn = contexts.draw(static_cast<double>(__shfl_sync(every_lane, uniform, step)));
        contexts.follow(drawn);
        if (step == lane) mine = drawn;
      }
      if (lane < count) index[first + lane] = static_cast<Index>(mine);
    }
    __syncwarp();  // no lane counts any more when the next sequence's counts are cleared
  }
}

}  // namespace fractalops::cuda
