// A substitute for CUDA's header of the same name. With it, g++ compiles CUDA kernels unchanged, and they run on the
// CPU thread by thread. A launch is finished when cudaLaunchKernelEx returns. Blocks run one after the other.
//
// Emulated: threadIdx ... gridDim, dynamic shared memory, __syncthreads, __syncwarp, shuffles, votes, matches.
// Rejected with a message: uses of these that CUDA leaves undefined (block.h), access to memory that was not requested
// (dynamic_shared.h), and launches that the hardware rejects.
// A build for ThreadSanitizer finds the races within a block, even if a shuffle or a vote replaces a __syncwarp
// (races.h). Other builds cannot, because here every warp operation waits for its lanes.
// Not detected: spinning until another thread or block has written something (it never ends), and races between blocks
// that no order of the blocks reveals.
#pragma once

#include <mutex>
#include <numeric>
#include <tuple>
#include <utility>
#include <vector>

#include "block.h"
#include "dynamic_shared.h"
#include "synchronization.h"

#define __global__
#define __device__
#define __host__
#define __shared__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
// A store that the hardware caches in L2 only.
template <typename T>
void __stcg(T* address, T value) {
  *address = value;
}

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorLaunchFailure = 719,
};

using cudaStream_t = struct CUstream_st*;
struct cudaLaunchAttribute;
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};

namespace emulation {

inline Order block_order = Order::ascending;
inline cudaError_t last_error = cudaSuccess;
inline std::string last_message = "no error";
inline std::vector<size_t> launches;  // dynamic shared memory of each launch
inline std::mutex one_launch_at_a_time;

inline cudaError_t report(cudaError_t error, const std::string& message) {
  last_error = error;
  last_message = message;
  return error;
}

// Returns why the hardware rejects a launch, or an empty string.
inline std::string refusal(const cudaLaunchConfig_t& config) {
  const auto one = [](uint64_t value, const char* name, uint64_t most) {
    if (value >= 1 && value <= most) return std::string();
    return std::string(name) + " must lie in [1, " + std::to_string(most) + "], got " + std::to_string(value);
  };
  const dim3 grid = config.gridDim, block = config.blockDim;
  for (const std::string& reason :
       {one(grid.x, "gridDim.x", 0x7fffffff), one(grid.y, "gridDim.y", 65535), one(grid.z, "gridDim.z", 65535),
        one(block.x, "blockDim.x", 1024), one(block.y, "blockDim.y", 1024), one(block.z, "blockDim.z", 64),
        one(uint64_t{block.x} * block.y * block.z, "threads in a block", 1024)})
    if (!reason.empty()) return reason;
  if (config.dynamicSmemBytes > shared_memory_limit)
    return "dynamicSmemBytes must be at most " + std::to_string(shared_memory_limit) + ", got " +
           std::to_string(config.dynamicSmemBytes);
  if (config.dynamicSmemBytes > 0 && !shared_memory.exists()) return "no array was given for dynamic shared memory";
  if (config.numAttrs != 0) return "attributes of a launch are not emulated";
  return "";
}

inline std::vector<uint64_t> ordered_blocks(uint64_t count) {
  std::vector<uint64_t> blocks(count);
  std::iota(blocks.begin(), blocks.end(), 0);
  if (block_order == Order::descending) std::reverse(blocks.begin(), blocks.end());
  if (block_order == Order::random) std::shuffle(blocks.begin(), blocks.end(), block.random);
  return blocks;
}

inline cudaError_t launch(const cudaLaunchConfig_t& config, const std::function<void()>& kernel) {
  const std::lock_guard<std::mutex> lock(one_launch_at_a_time);
  const std::string reason = refusal(config);
  if (!reason.empty()) return report(cudaErrorInvalidConfiguration, "invalid configuration argument: " + reason);
  gridDim = config.gridDim;
  blockDim = config.blockDim;
  launches.push_back(config.dynamicSmemBytes);
  block.error.clear();
  shared_memory.begin_launch(config.dynamicSmemBytes);
  for (const uint64_t number : ordered_blocks(uint64_t{gridDim.x} * gridDim.y * gridDim.z)) {
    blockIdx = {static_cast<unsigned>(number % gridDim.x), static_cast<unsigned>(number / gridDim.x % gridDim.y),
                static_cast<unsigned>(number / gridDim.x / gridDim.y)};
    shared_memory.begin_block();
    if (!block.run(kernel)) break;
    if (!shared_memory.intact()) {
      block.error = "block " + text(blockIdx) + ": wrote beyond the " + std::to_string(config.dynamicSmemBytes) +
                    " bytes of dynamic shared memory that the launch requested";
      break;
    }
  }
  shared_memory.end_launch();
  return block.error.empty() ? cudaSuccess : report(cudaErrorLaunchFailure, block.error);
}

}  // namespace emulation

// The arguments are converted to the kernel's parameters once. Each thread gets its own copies.
template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  const std::tuple<Parameters...> parameters(std::forward<Arguments>(arguments)...);
  return emulation::launch(*config, [&] { std::apply(kernel, parameters); });
}

inline cudaError_t cudaGetLastError() {
  const cudaError_t error = emulation::last_error;
  emulation::last_error = cudaSuccess;
  return error;
}

// Returns the complete message of the last error.
inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : emulation::last_message.c_str();
}

// Functions for the tests.
#define EMULATION_EXPORT extern "C" __attribute__((visibility("default"), used)) inline

// The orders are 0 (ascending), 1 (descending) and 2 (random, with the seed).
EMULATION_EXPORT void emulation_set_order(int threads, int blocks, unsigned seed) {
  emulation::block.order = static_cast<emulation::Order>(threads);
  emulation::block_order = static_cast<emulation::Order>(blocks);
  emulation::block.random.seed(seed);
}
EMULATION_EXPORT int64_t emulation_launches() { return static_cast<int64_t>(emulation::launches.size()); }
EMULATION_EXPORT int64_t emulation_shared_bytes(int64_t launch) {
  return static_cast<int64_t>(emulation::launches.at(static_cast<size_t>(launch)));
}
