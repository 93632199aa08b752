// Dynamic shared memory: one array, which the file that includes the source under test defines. Before each block it is
// filled with NaNs. The memory after the requested size is poisoned (AddressSanitizer) or has a guard pattern.
#pragma once

#include <cstdint>
#include <cstring>

#include "fibers.h"

namespace emulation {

constexpr size_t shared_memory_limit = 48 * 1024;                      // maximum for a launch without an opt-in
constexpr size_t shared_memory_size = shared_memory_limit + 4 * 1024;  // with room to detect overruns

class SharedMemory {
 public:
  // Must be called once with the array, by a variable in the file that defines the array.
  bool use(unsigned char (&array)[shared_memory_size]) {
    array_ = array;
    return true;
  }

  bool exists() const { return array_ != nullptr; }

  void begin_launch(size_t size) {
    if (!exists()) return;
    size_ = size;
#ifdef EMULATION_ASAN
    __asan_poison_memory_region(array_ + size_, shared_memory_size - size_);
#else
    for (size_t i = size_; i < shared_memory_size; ++i) array_[i] = guard[i % sizeof guard];
#endif
  }

  void begin_block() {
    if (exists()) std::memset(array_, 0xff, size_);  // NaN as float and as double
  }

  // Returns whether the guard is unchanged.
  bool intact() const {
#ifndef EMULATION_ASAN
    // The guard repeats a pattern. It is intact if it starts correctly and equals itself, shifted by the pattern's
    // length.
    for (size_t i = size_; exists() && i < size_ + sizeof guard; ++i)
      if (array_[i] != guard[i % sizeof guard]) return false;
    const size_t rest = shared_memory_size - size_ - sizeof guard;
    return !exists() || std::memcmp(array_ + size_, array_ + size_ + sizeof guard, rest) == 0;
#else
    return true;
#endif
  }

  void end_launch() {
#ifdef EMULATION_ASAN
    if (exists()) __asan_unpoison_memory_region(array_, shared_memory_size);
#endif
  }

 private:
  static constexpr unsigned char guard[] = {0xa5, 0xa5, 0xff, 0xff};  // also a NaN, for code that only reads it
  unsigned char* array_ = nullptr;
  size_t size_ = 0;
};

inline SharedMemory shared_memory;

}  // namespace emulation
