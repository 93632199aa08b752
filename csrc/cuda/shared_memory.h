// How a block divides its shared memory, and how it moves rows of global arrays in and out of it.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "../host_device.h"

namespace fractalops::cuda {

inline constexpr int lanes = 32;  // of a warp
inline constexpr unsigned every_lane = 0xffffffffu;

// Every card grants a block this much without being asked for more. Beside each kernel stands what it takes at most, in
// 3 dimensions, without the tables that affine_chain_plan.h lays there too where they fit.
inline constexpr int64_t shared_limit = 48 * 1024;  // bytes

// One array for all kernels, which they divide up themselves.
extern __shared__ __align__(16) unsigned char dynamic_shared[];

// The elements from one row of a shared table to the next: an odd number, so that the same element of 32 rows lies in
// 32 different banks.
FRACTALOPS_HOST_DEVICE constexpr int odd_pitch(int elements) { return elements | 1; }

// Takes array after array off the shared memory; arrays of larger elements come first, so that all are aligned.
struct SharedMemory {
  unsigned char* next = dynamic_shared;

  template <typename T>
  __device__ T* take(int64_t count) {
    T* array = reinterpret_cast<T*>(next);
    next += count * sizeof(T);
    return array;
  }
};

// Equally long and equally spaced rows of a global array: row r is array[first + r * pitch] and the count - 1 elements
// behind it. In shared memory it begins at r * shared_pitch.
struct Rows {
  int64_t first, pitch;
  int rows, count, shared_pitch;
};

// What one instruction moves: 16 bytes, at an address that is a multiple of 16.
template <typename T>
union Word {
  T element[16 / sizeof(T)];
  uint4 bits;
};

// Calls move(place in the array, row, place in the row) for the first element of every aligned word that the rows
// touch. A row can begin anywhere, so the place in the row of its first word can be negative.
// Who owns what: word after word of all rows, dealt out to the threads in turn; neighbors move neighboring words.
template <typename T, typename Move>
__device__ void for_each_word(const T* array, const Rows& rows, int thread, int threads, const Move& move) {
  constexpr int elements = 16 / sizeof(T);
  const int words = (rows.count + elements - 1) / elements + 1;  // at most, wherever the row begins
#pragma unroll 1
  for (int word = thread; word < rows.rows * words; word += threads) {
    const int row = word / words;
    const int64_t begin = rows.first + row * rows.pitch;
    const uintptr_t address = reinterpret_cast<uintptr_t>(array) + begin * static_cast<int64_t>(sizeof(T));
    const int place = word % words * elements - static_cast<int>(address % 16 / sizeof(T));
    if (place < rows.count) move(begin + place, row, place);
  }
}

// shared <- convert(the rows of an array of `size` elements). What lies outside the array is not read.
template <typename T, typename Staged, typename Convert>
__device__ void stage_in(const T* array, int64_t size, const Rows& rows, Staged* shared, int thread, int threads,
                         const Convert& convert) {
  constexpr int elements = 16 / sizeof(T);
  for_each_word(array, rows, thread, threads, [&](int64_t at, int row, int place) {
    Word<T> word = {};
    if (at >= 0 && at + elements <= size) {
      word.bits = *reinterpret_cast<const uint4*>(array + at);
    } else {
      for (int k = 0; k < elements; ++k)
        if (at + k >= 0 && at + k < size) word.element[k] = array[at + k];
    }
    for (int k = 0; k < elements; ++k)
      if (place + k >= 0 && place + k < rows.count)
        shared[row * rows.shared_pitch + place + k] = convert(word.element[k]);
  });
}

template <typename T>
__device__ void stage_in(const T* array, int64_t size, const Rows& rows, T* shared, int thread, int threads) {
  stage_in(array, size, rows, shared, thread, threads, [](T value) { return value; });
}

// The rows of an array <- shared. Nothing beside the rows is written: others own it.
template <typename T>
__device__ void stage_out(T* array, const Rows& rows, const T* shared, int thread, int threads) {
  constexpr int elements = 16 / sizeof(T);
  for_each_word(array, rows, thread, threads, [&](int64_t at, int row, int place) {
    const T* from = shared + row * rows.shared_pitch + place;
    if (place >= 0 && place + elements <= rows.count) {
      Word<T> word;
      for (int k = 0; k < elements; ++k) word.element[k] = from[k];
      // A plain assignment would be taken apart into stores of elements, like those below.
      __stcg(reinterpret_cast<uint4*>(array + at), word.bits);
    } else {
      for (int k = 0; k < elements; ++k)
        if (place + k >= 0 && place + k < rows.count) array[at + k] = from[k];
    }
  });
}

}  // namespace fractalops::cuda
