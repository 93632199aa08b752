// Which of a kernel's copies runs: that of the best instruction set which the processor has. foreach_instruction_set.h
// makes the copies.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <utility>

#define FRACTALOPS_INLINE inline __attribute__((always_inline))

#if defined(__x86_64__) && defined(__GNUC__) && !defined(FRACTALOPS_BASELINE_ONLY)
#define FRACTALOPS_HAS_COPIES
#endif

namespace fractalops::cpu {

enum class InstructionSet { baseline, avx2 };

inline constexpr const char* instruction_set_names[] = {"baseline", "avx2"};

inline InstructionSet find_instruction_set() {
#if defined(FRACTALOPS_HAS_COPIES)
  const char* limit = std::getenv("FRACTALOPS_INSTRUCTION_SET");
  const auto may_run = [&](InstructionSet set) {
    return limit == nullptr || std::strcmp(limit, instruction_set_names[static_cast<int>(set)]) == 0;
  };
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && may_run(InstructionSet::avx2))
    return InstructionSet::avx2;
#endif
  return InstructionSet::baseline;
}

// Chosen once for a process. The environment variable FRACTALOPS_INSTRUCTION_SET, for tests, names another one; where
// the processor doesn't have it, the baseline runs.
inline InstructionSet instruction_set() {
  static const InstructionSet chosen = find_instruction_set();
  return chosen;
}

// Of a vector in the copy that runs.
inline int64_t vector_bytes() { return 32; }

}  // namespace fractalops::cpu

// The function as compiled for this processor: FRACTALOPS_SELECT(kernel<T>)(arguments).
#if defined(FRACTALOPS_HAS_COPIES)
#define FRACTALOPS_SELECT(...)                                                     \
  (::fractalops::cpu::instruction_set() == ::fractalops::cpu::InstructionSet::avx2 \
       ? ::fractalops::cpu::avx2::__VA_ARGS__                                      \
       : ::fractalops::cpu::baseline::__VA_ARGS__)
#else
#define FRACTALOPS_SELECT(...) (::fractalops::cpu::baseline::__VA_ARGS__)
#endif
