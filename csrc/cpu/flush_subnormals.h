// Flushes subnormal numbers to zero, because arithmetic with them takes a hundred cycles on some processors.
#pragma once

#include <cstdint>
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace fractalops::cpu {

// During the lifetime of this object, the thread treats subnormal operands as 0 and produces 0 for subnormal results.
class FlushSubnormals {
 public:
  FlushSubnormals() : saved_(get()) {
#if defined(__SSE2__)
    set(saved_ | 0x8040);  // for results and operands
#else
    set(saved_ | 1 << 24);
#endif
  }
  ~FlushSubnormals() { set(saved_); }
  FlushSubnormals(const FlushSubnormals&) = delete;
  FlushSubnormals& operator=(const FlushSubnormals&) = delete;

 private:
  // Read and write the processor's control word of floating-point arithmetic.
#if defined(__SSE2__)
  static uint64_t get() { return _mm_getcsr(); }
  static void set(uint64_t word) { _mm_setcsr(static_cast<unsigned>(word)); }
#elif defined(__aarch64__)
  static uint64_t get() {
    uint64_t word;
    asm volatile("mrs %0, fpcr" : "=r"(word));
    return word;
  }
  static void set(uint64_t word) { asm volatile("msr fpcr, %0" : : "r"(word) : "memory"); }
#else
  static uint64_t get() { return 0; }
  static void set(uint64_t) {}
#endif

  uint64_t saved_;
};

}  // namespace fractalops::cpu
