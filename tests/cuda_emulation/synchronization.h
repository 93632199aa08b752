// __syncthreads and the warp operations. A default argument of each one receives the line of the call.
#pragma once

#include <cstdlib>
#include <cstring>
#include <type_traits>

#include "block.h"

namespace emulation {

template <typename T>
concept WarpValue = std::is_same_v<T, int> || std::is_same_v<T, unsigned> || std::is_same_v<T, long> ||
                    std::is_same_v<T, unsigned long> || std::is_same_v<T, long long> ||
                    std::is_same_v<T, unsigned long long> || std::is_same_v<T, float> || std::is_same_v<T, double>;

template <WarpValue T>
uint64_t to_bits(T value) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}

template <WarpValue T>
T from_bits(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// A shuffle within segments of `width` lanes. A lane whose `source` is in another segment keeps its own value.
template <WarpValue T>
T shuffle(const char* name, unsigned mask, T value, int64_t source, int width, std::source_location site) {
  Call call{Exchange::shuffle, name, mask, 0, to_bits(value), site};
  if (width < 1 || width > warpSize || (width & (width - 1)) != 0)
    block.fail(call, "width must be a power of two of at most 32, got " + std::to_string(width));
  const int lane = block.lane(), first = lane & -width;
  if (std::abs(source - lane) >= warpSize)
    block.fail(call, "delta must be less than 32");  // the hardware takes it modulo 32
  call.source = source < first || source >= first + width ? lane : static_cast<int>(source);
  return from_bits<T>(block.meet_lanes(call));
}

inline unsigned ballot(const char* name, unsigned mask, int predicate, std::source_location site) {
  return static_cast<unsigned>(
      block.meet_lanes({Exchange::ballot, name, mask, 0, static_cast<uint64_t>(predicate != 0), site}));
}

}  // namespace emulation

inline void __syncthreads(std::source_location site = std::source_location::current()) {
  emulation::block.meet_block({emulation::Exchange::barrier, "__syncthreads", 0, 0, 0, site});
}

inline void __syncwarp(unsigned mask = 0xffffffff, std::source_location site = std::source_location::current()) {
  emulation::block.meet_lanes({emulation::Exchange::nothing, "__syncwarp", mask, 0, 0, site});
}

template <emulation::WarpValue T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize,
              std::source_location site = std::source_location::current()) {
  const int first = emulation::block.lane() & -width;
  return emulation::shuffle("__shfl_sync", mask, value, first + (source & (width - 1)), width, site);
}

template <emulation::WarpValue T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                 std::source_location site = std::source_location::current()) {
  return emulation::shuffle("__shfl_up_sync", mask, value, emulation::block.lane() - int64_t{delta}, width, site);
}

template <emulation::WarpValue T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                   std::source_location site = std::source_location::current()) {
  return emulation::shuffle("__shfl_down_sync", mask, value, emulation::block.lane() + int64_t{delta}, width, site);
}

inline unsigned __ballot_sync(unsigned mask, int predicate,
                              std::source_location site = std::source_location::current()) {
  return emulation::ballot("__ballot_sync", mask, predicate, site);
}

inline int __any_sync(unsigned mask, int predicate, std::source_location site = std::source_location::current()) {
  return emulation::ballot("__any_sync", mask, predicate, site) != 0;
}

inline int __all_sync(unsigned mask, int predicate, std::source_location site = std::source_location::current()) {
  return emulation::ballot("__all_sync", mask, !predicate, site) == 0;
}

template <emulation::WarpValue T>
unsigned __match_any_sync(unsigned mask, T value, std::source_location site = std::source_location::current()) {
  return static_cast<unsigned>(emulation::block.meet_lanes(
      {emulation::Exchange::match, "__match_any_sync", mask, 0, emulation::to_bits(value), site}));
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
