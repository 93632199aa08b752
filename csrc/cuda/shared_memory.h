// How a block divides its shared memory, and how it copies rows between shared and global memory.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "../host_device.h"

namespace fractalops::cuda {

inline constexpr int lanes = 32;  // per warp
inline constexpr unsigned every_lane = 0xffffffffu;

// On every GPU, a block can use this much shared memory without an opt-in. The comment above each kernel says how much
// the kernel takes at most, for 3 dimensions. This excludes the tables that affine_chain_plan.h adds if they fit.
inline constexpr int64_t shared_limit = 48 * 1024;  // bytes

// One array for all kernels. Each kernel divides it.
extern __shared__ __align__(16) unsigned char dynamic_shared[];

// The number of elements from one row of a shared table to the next. It is odd, so that the same element of 32 rows is
// in 32 different banks.
FRACTALOPS_HOST_DEVICE constexpr int odd_pitch(int elements) { return elements | 1; }

// Takes arrays from shared memory, one after another. Arrays with larger elements must be taken first, so that all are
// aligned.
struct SharedMemory {
  unsigned char* next = dynamic_shared;

  template <typename T>
  __device__ T* take(int64_t count) {
    T* array = reinterpret_cast<T*>(next);
    next += count * sizeof(T);
    return array;
  }
};

// Rows of equal length and spacing in a global array. Row r has the `count` elements from array[first + r * pitch] on.
// In shared memory it starts at r * shared_pitch.
struct Rows {
  int64_t first, pitch;
  int rows, count, shared_pitch;
};

// The data that one instruction moves: 16 bytes, at an address that is a multiple of 16.
template <typename T>
union Word {
  T element[16 / sizeof(T)];
  uint4 bits;
};

// Calls move(index in the array, row, index in the row) for the first element of every aligned word that the rows
// touch. A row can start anywhere, so the index in the row of its first word can be negative.
// Ownership: thread i owns the words i, i + threads, ... of all rows. So neighboring threads move neighboring words.
template <typename T, typename Move>
__device__ void for_each_word(const T* array, const Rows& rows, int thread, int threads, const Move& move) {
  constexpr int elements = 16 / sizeof(T);
  const int words = (rows.count + elements - 1) / elements + 1;  // maximum, for any start of the row
#pragma unroll 1
  for (int word = thread; word < rows.rows * words; word += threads) {
    const int row = word / words;
    const int64_t begin = rows.first + row * rows.pitch;
    const uintptr_t address = reinterpret_cast<uintptr_t>(array) + begin * static_cast<int64_t>(sizeof(T));
    const int place = word % words * elements - static_cast<int>(address % 16 / sizeof(T));
    if (place < rows.count) move(begin + place, row, place);
  }
}

// shared <- convert(rows of an array of `size` elements). Elements outside the array are not read.
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

// Rows of an array <- shared. Elements outside the rows are not written, because others own them.
template <typename T>
__device__ void stage_out(T* array, const Rows& rows, const T* shared, int thread, int threads) {
  constexpr int elements = 16 / sizeof(T);
  for_each_word(array, rows, thread, threads, [&](int64_t at, int row, int place) {
    const T* from = shared + row * rows.shared_pitch + place;
    if (place >= 0 && place + elements <= rows.count) {
      Word<T> word;
      for (int k = 0; k < elements; ++k) word.element[k] = from[k];
      // The compiler would split a plain assignment into stores of single elements, like those below.
      __stcg(reinterpret_cast<uint4*>(array + at), word.bits);
    } else {
      for (int k = 0; k < elements; ++k)
        if (place + k >= 0 && place + k < rows.count) array[at + k] = from[k];
    }
  });
}

}  // namespace fractalops::cuda
