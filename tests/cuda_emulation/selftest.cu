// Small kernels that the emulation must run correctly, and misuse that it must find.
// tests/native/test_cuda_emulation.py calls the functions at the end. main() is the program for the sanitizers.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace selftest {
namespace {

extern __shared__ __align__(16) unsigned char dynamic_shared[];

constexpr unsigned every_lane = 0xffffffffu;

__device__ int thread_number() { return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z); }

// Kernels that must give correct results.

template <typename T>
__global__ void shuffle(const T* in, T* out, int how, int argument, int width) {
  const int thread = threadIdx.x;
  if (how == 0) out[thread] = __shfl_sync(every_lane, in[thread], argument, width);
  if (how == 1) out[thread] = __shfl_up_sync(every_lane, in[thread], argument, width);
  if (how == 2) out[thread] = __shfl_down_sync(every_lane, in[thread], argument, width);
}

// out (5, threads): ballot, any, all, match, and a ballot of the odd lanes only.
__global__ void vote(const int* in, unsigned* out) {
  const int thread = threadIdx.x, threads = blockDim.x;
  const unsigned odd = 0xaaaaaaaau;
  out[thread] = __ballot_sync(every_lane, in[thread]);
  out[threads + thread] = __any_sync(every_lane, in[thread]);
  out[2 * threads + thread] = __all_sync(every_lane, in[thread]);
  out[3 * threads + thread] = __match_any_sync(every_lane, in[thread]);
  out[4 * threads + thread] = thread % 2 == 1 ? __ballot_sync(odd, in[thread]) : __ballot_sync(~odd, 0);
}

// Adds up the block's values: halves their number in shared memory until a warp can hold them, and then uses shuffles.
// out (blocks)
__global__ void __launch_bounds__(1024) block_sum(const double* in, double* out) {
  double* sums = reinterpret_cast<double*>(dynamic_shared);
  const int thread = threadIdx.x;
  int count = blockDim.x;
  sums[thread] = in[blockIdx.x * blockDim.x + thread];
  __syncthreads();
  while (count > warpSize) {
    const int half = (count + 1) / 2;
    if (thread + half < count) sums[thread] += sums[thread + half];
    count = half;
    __syncthreads();
  }
  if (thread >= count) return;
  const unsigned lanes = every_lane >> (warpSize - count);
  double sum = sums[thread];
  for (int step = warpSize / 2; step > 0; step /= 2) {
    const double other = __shfl_sync(lanes, sum, std::min(thread + step, count - 1));
    if (thread < step && thread + step < count) sum += other;
  }
  if (thread == 0) out[blockIdx.x] = sum;
}

// out (threads of the grid): the number of the thread that wrote the element, from 1.
__global__ void number_grid(int64_t* out) {
  const int64_t block = blockIdx.x + gridDim.x * (blockIdx.y + uint64_t{gridDim.y} * blockIdx.z);
  const int64_t place = block * (blockDim.x * blockDim.y * blockDim.z) + thread_number();
  out[place] += place + 1;
}

// out (threads of the grid): the threads, in the order in which they ran.
__global__ void note_order(int* out, int* next) { out[(*next)++] = blockIdx.x * blockDim.x + threadIdx.x; }

__global__ void read_unwritten(float* out) { out[threadIdx.x] = reinterpret_cast<float*>(dynamic_shared)[threadIdx.x]; }

// out (threads): the neighbor's value, unless the barrier is forgotten.
__global__ void neighbor(float* out, bool forgotten) {
  float* shared = reinterpret_cast<float*>(dynamic_shared);
  shared[threadIdx.x] = threadIdx.x;
  if (!forgotten) __syncthreads();
  out[threadIdx.x] = shared[(threadIdx.x + 1) % blockDim.x];
}

// The synchronization between a write to shared memory and a neighbor's read, and after the read. It orders both, or it
// is not enough. In a block of two warps, the last thread is a neighbor of the first.
enum Between { both_barriers, warp_barriers, shuffle_instead, vote_instead, match_instead, no_barrier_after };

__global__ void neighbors_twice(float* out, Between between) {
  float* shared = reinterpret_cast<float*>(dynamic_shared);
  const int thread = threadIdx.x;
  const auto meet = [&] { between == warp_barriers ? __syncwarp() : __syncthreads(); };
  for (int turn = 0; turn < 2; ++turn) {
    shared[thread] = thread;
    if (between == shuffle_instead)
      __shfl_sync(every_lane, 1.0f, 0);
    else if (between == vote_instead)
      __any_sync(every_lane, 1);
    else if (between == match_instead)
      __match_any_sync(every_lane, 1);
    else
      meet();
    out[thread] = shared[(thread + 1) % blockDim.x];
    if (between != no_barrier_after) meet();
  }
}

// Misuse that must be found.

__global__ void lane_outside_its_mask() { __ballot_sync(0x0000fffe, 1); }

__global__ void absent_lane() {
  if (threadIdx.x != 5) __shfl_sync(every_lane, 1.0f, 0);
}

__global__ void lane_at_barrier() {
  if (threadIdx.x == 5) __syncthreads();
  __shfl_up_sync(every_lane, 1.0f, 1);
}

__global__ void source_outside_the_mask() {
  if (threadIdx.x < 16) __shfl_down_sync(0x0000ffff, 1, 1);
}

__global__ void source_that_does_not_exist() { __shfl_down_sync(every_lane, 1, 1); }

__global__ void different_masks() { __syncwarp(threadIdx.x == 3 ? 0x0000ffff : every_lane); }

__global__ void different_lines() {
  if (threadIdx.x < 7)
    __any_sync(every_lane, 1);
  else
    __any_sync(every_lane, 0);
}

__global__ void different_operations() { threadIdx.x < 7 ? __any_sync(every_lane, 1) : __all_sync(every_lane, 1); }

__global__ void width_of_12() { __shfl_sync(every_lane, 1, 0, 12); }

__global__ void delta_of_32() { __shfl_up_sync(every_lane, 1, 32); }

__global__ void divergent_barrier() {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
}

__global__ void exit_before_barrier() {
  if (threadIdx.x == 20) return;
  __syncthreads();
}

__global__ void shared_overrun() { dynamic_shared[blockDim.x * sizeof(float) + threadIdx.x] = 1; }

__global__ void shared_overrun_by_one() {
  if (threadIdx.x == 0) dynamic_shared[blockDim.x * sizeof(float)] = 1;
}

__global__ void heap_overrun(int* array, int count) { array[threadIdx.x + count - blockDim.x + 1] = 1; }

struct alignas(16) Four {
  float element[4];
};

__global__ void misaligned(float* array) { reinterpret_cast<Four*>(array + 1)->element[0] = 1; }

alignas(16) unsigned char dynamic_shared[emulation::shared_memory_size];
const bool registered = emulation::shared_memory.use(dynamic_shared);

template <typename... Parameters>
const char* launch(dim3 grid, dim3 block, int64_t shared_bytes, void (*kernel)(Parameters...),
                   std::type_identity_t<Parameters>... arguments) {
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  const cudaError_t error = cudaLaunchKernelEx(&config, kernel, arguments...);
  return error == cudaSuccess ? "" : cudaGetErrorString(error);
}

struct Misuse {
  const char* name;
  void (*kernel)();
};

#define MISUSE(kernel) {#kernel, kernel}
const Misuse misuses[] = {
    MISUSE(lane_outside_its_mask),
    MISUSE(absent_lane),
    MISUSE(lane_at_barrier),
    MISUSE(source_outside_the_mask),
    MISUSE(source_that_does_not_exist),
    MISUSE(different_masks),
    MISUSE(different_lines),
    MISUSE(different_operations),
    MISUSE(width_of_12),
    MISUSE(delta_of_32),
    MISUSE(divergent_barrier),
    MISUSE(exit_before_barrier),
    MISUSE(shared_overrun),
    MISUSE(shared_overrun_by_one),
};

}  // namespace
}  // namespace selftest

// All functions return the error's message, or "" if there is none.
#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT const char* run_shuffle(int threads, const char* type, const void* in, void* out, int how, int argument,
                               int width) {
  const auto run = [&](auto value) {
    using T = decltype(value);
    return selftest::launch(1, threads, 0, selftest::shuffle<T>, static_cast<const T*>(in), static_cast<T*>(out), how,
                            argument, width);
  };
  if (!std::strcmp(type, "float32")) return run(float{});
  if (!std::strcmp(type, "float64")) return run(double{});
  if (!std::strcmp(type, "int32")) return run(int{});
  return run(static_cast<long long>(0));
}
EXPORT const char* run_vote(int threads, const int* in, unsigned* out) {
  return selftest::launch(1, threads, 0, selftest::vote, in, out);
}
EXPORT const char* run_block_sum(int blocks, int threads, const double* in, double* out) {
  return selftest::launch(blocks, threads, threads * sizeof(double), selftest::block_sum, in, out);
}
EXPORT const char* run_number_grid(const unsigned* grid, const unsigned* block, int64_t* out) {
  return selftest::launch({grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, 0, selftest::number_grid, out);
}
EXPORT const char* run_note_order(int blocks, int threads, int* out) {
  int next = 0;
  return selftest::launch(blocks, threads, 0, selftest::note_order, out, &next);
}
EXPORT const char* run_read_unwritten(int threads, float* out) {
  return selftest::launch(2, threads, threads * sizeof(float), selftest::read_unwritten, out);
}
EXPORT const char* run_neighbor(int threads, bool forgotten, float* out) {
  return selftest::launch(1, threads, threads * sizeof(float), selftest::neighbor, out, forgotten);
}
EXPORT const char* run_misuse(const char* name, int threads) {
  for (const selftest::Misuse& misuse : selftest::misuses)
    if (!std::strcmp(misuse.name, name)) return selftest::launch(1, threads, threads * sizeof(float), misuse.kernel);
  return "there is no such misuse";
}
EXPORT const char* run_with(const unsigned* grid, const unsigned* block, int64_t shared_bytes) {
  return selftest::launch({grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, shared_bytes, +[] {});
}

int main(int, char** arguments) {
  const char* name = arguments[1];
  const char* error = "";
  if (!std::strcmp(name, "correct")) {
    const std::vector<double> in(3 * 300, 1.0);
    std::vector<double> out(3);
    error = run_block_sum(3, 300, in.data(), out.data());
    if (out != std::vector<double>(3, 300.0)) error = "a sum is wrong";
  } else if (!std::strcmp(name, "heap_overrun")) {
    std::vector<int> array(100);
    error = selftest::launch(1, 33, 0, selftest::heap_overrun, array.data(), 100);
  } else if (!std::strcmp(name, "neighbors")) {
    std::vector<float> out(64);
    const int threads = std::atoi(arguments[2]), between = std::atoi(arguments[3]);
    error = selftest::launch(1, threads, threads * sizeof(float), selftest::neighbors_twice, out.data(),
                             static_cast<selftest::Between>(between));
  } else if (!std::strcmp(name, "misaligned")) {
    alignas(16) float array[8] = {};
    error = selftest::launch(1, 1, 0, selftest::misaligned, array);
  } else {
    error = run_misuse(name, 33);
  }
  std::puts(error);
  return *error ? 1 : 0;
}
