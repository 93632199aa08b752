// Decisions on the host before the affine chain is launched: the form, how the sequences are split, and the contents of
// shared memory. They depend on shapes only. So the order of the additions, the workspaces and CUDA graphs are the same
// in all calls with these shapes.
#pragma once

#include <algorithm>

#include "../division.h"
#include "affine_chain_scan.h"
#include "affine_chain_sequential.h"

namespace fractalops::cuda {

// The values of the op's private argument `form`.
enum class Form : int64_t { chosen = 0, sequential = 1, scan = 2 };

// Returns the form that should be faster on a GPU with about 128 multiprocessors. This is an estimate from instruction
// latencies, which has not been measured yet:
// - sequential, 512 warps in parallel: 40 cycles per step (the latency of shared memory and of two dependent
//   multiply-adds); backward 250, most of them for the sums by map;
// - scan, 512 blocks in parallel: 1500 cycles per tile (five rounds of shuffles and compositions, then the steps
//   themselves); backward 1250 more, for five calls of the sum by map in each of four warps.
// For sequences of 300 points, the scan is chosen for up to 4095 of them, backward for up to 13963. For sequences of 30
// points, it is never chosen, backward for up to 1396.
inline Form choose_form(int64_t sequences, int64_t length, bool backward) {
  constexpr int64_t forward_step = 40, backward_step = 250, forward_tile = 1500, backward_tile = 2750;
  constexpr int64_t warps = 512, blocks = 512;
  const int64_t tiles = sequences * divide_up(length, scan_threads * scan_run);
  const int64_t walk = (backward ? backward_step : forward_step) * length;
  const int64_t sequential = walk * std::max(sequences, warps * lanes) / (warps * lanes);
  const int64_t scan = (backward ? backward_tile : forward_tile) * std::max(tiles, blocks) / blocks;
  return scan < sequential ? Form::scan : Form::sequential;
}

// With up to 8 tiles per sequence, one block processes them faster than two more kernels are launched. With more tiles,
// up to 1024 blocks share the tiles of all sequences.
inline Chunks choose_chunks(int64_t sequences, int64_t length) {
  constexpr int64_t tile = scan_threads * scan_run, tiles_of_one_block = 8, blocks = 1024;
  const int64_t tiles = divide_up(length, tile);
  if (tiles <= tiles_of_one_block) return {1, length};
  const int64_t wanted = std::clamp(blocks / sequences, int64_t(1), tiles);
  const int64_t chunk = divide_up(tiles, wanted) * tile;
  return {divide_up(length, chunk), chunk};
}

// Returns the number of threads of a block: as few warps as can process a sequence in one tile, so that short sequences
// leave no warps idle, and at most scan_warps.
inline int choose_scan_threads(int64_t length) {
  return lanes * static_cast<int>(std::min<int64_t>(divide_up(length, lanes * scan_run), scan_warps));
}

// A kernel's shared memory: the part that it always needs, and the tables that are added if they fit.
template <typename T>
struct SharedPlan {
  int64_t bytes;

  // The part that is always needed: `elements` of T and `integers` of int.
  SharedPlan(int64_t elements, int64_t integers) : bytes(elements * sizeof(T) + integers * sizeof(int)) {}

  bool add_if_it_fits(int64_t elements) {
    const int64_t more = elements * static_cast<int64_t>(sizeof(T));
    if (bytes + more > shared_limit) return false;
    bytes += more;
    return true;
  }
};

// How a backward sums by map: each block has `adders` warps that sum, each with its own slot of the workspace.
struct SumPlan {
  int adders;
  bool in_shared;
  int64_t blocks;

  int64_t slots() const { return blocks * adders; }
};

// Returns the maximum number of slots. The slots stay small, and so few that writing and adding them moves fewer bytes
// than the points do.
inline int64_t largest_slots(int64_t maps, int64_t points, int dimensions) {
  constexpr int64_t most = 2048, bytes = 32 << 20, points_of_map = 8;
  const int64_t slot_bytes = maps * sum_elements(dimensions) * static_cast<int64_t>(sizeof(double));
  return std::max<int64_t>(1, std::min({most, bytes / slot_bytes, points / (points_of_map * maps)}));
}

// `warps` is the number of warps of a block that could sum, `items` the number of blocks that could run.
template <typename T, int D>
SumPlan plan_sums(const AffineChain<T>& chain, int warps, int64_t items, SharedPlan<T>& shared) {
  const int64_t table = static_cast<int64_t>(chain.maps) * MapSums<T, D>::pitch;
  const int64_t slots = largest_slots(chain.maps, chain.sequences * chain.length, D);
  const int most = static_cast<int>(std::min<int64_t>(warps, slots));
  int adders = most;
  while (adders > 0 && !shared.add_if_it_fits(adders * table)) --adders;
  const bool in_shared = adders > 0;
  if (!in_shared) adders = most;
  return {adders, in_shared, std::min(items, std::max<int64_t>(1, slots / adders))};
}

// Returns whether each block copies the maps: if they fit, and have at most a quarter of the elements of the `points`
// that the block then processes. In a batch of many systems a block needs only a few of the maps. It then reads them
// through the caches.
template <typename T, int D>
bool plan_table(const AffineChain<T>& chain, int64_t points, SharedPlan<T>& shared) {
  constexpr int64_t share = 4;
  const int64_t elements = map_elements(D, chain.offset != nullptr);
  return share * chain.maps * elements <= points * D &&
         shared.add_if_it_fits(int64_t(chain.maps) * odd_pitch(elements));
}

}  // namespace fractalops::cuda
