// Which of a kernel's copies the processor can run. foreach_instruction_set.h makes the copies.
#pragma once

#define FRACTALOPS_INLINE inline __attribute__((always_inline))

#if defined(__x86_64__) && defined(__GNUC__) && !defined(FRACTALOPS_BASELINE_ONLY)
#define FRACTALOPS_HAS_AVX2_COPY
namespace fractalops::cpu {
inline bool can_run_avx2() {
  static const bool supported = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return supported;
}
}  // namespace fractalops::cpu
// The function as compiled for this processor: FRACTALOPS_SELECT(kernel<T>)(arguments).
#define FRACTALOPS_SELECT(...) \
  (::fractalops::cpu::can_run_avx2() ? ::fractalops::cpu::avx2::__VA_ARGS__ : ::fractalops::cpu::baseline::__VA_ARGS__)
#else
#define FRACTALOPS_SELECT(...) (::fractalops::cpu::baseline::__VA_ARGS__)
#endif
