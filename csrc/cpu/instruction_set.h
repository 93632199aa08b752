// Chooses the copy of a kernel that runs: the copy for the best instruction set that the processor has.
// foreach_instruction_set.h makes the copies.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <utility>

#define FRACTALOPS_INLINE inline __attribute__((always_inline))
#define FRACTALOPS_LAMBDA __attribute__((always_inline))

#if defined(__x86_64__) && defined(__GNUC__) && !defined(FRACTALOPS_BASELINE_ONLY)
#define FRACTALOPS_HAS_COPIES
#endif
// The bytes of a vector in the baseline. Tests set a larger size.
#if !defined(FRACTALOPS_BASELINE_BYTES)
#define FRACTALOPS_BASELINE_BYTES 32
#endif

namespace fractalops::cpu {

// From the worst to the best. A processor that has one of them also has those before it.
enum class InstructionSet { baseline, avx2, avx512 };

inline constexpr const char* instruction_set_names[] = {"baseline", "avx2", "avx512"};

// Returns the best instruction set that the processor has.
inline InstructionSet best_instruction_set() {
#if defined(FRACTALOPS_HAS_COPIES)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return InstructionSet::baseline;
  for (const bool supported : {__builtin_cpu_supports("avx512f") != 0, __builtin_cpu_supports("avx512bw") != 0,
                               __builtin_cpu_supports("avx512dq") != 0, __builtin_cpu_supports("avx512vl") != 0})
    if (!supported) return InstructionSet::avx2;
  return InstructionSet::avx512;
#else
  return InstructionSet::baseline;
#endif
}

inline InstructionSet find_instruction_set() {
  const InstructionSet best = best_instruction_set();
  const char* asked_for = std::getenv("FRACTALOPS_INSTRUCTION_SET");
  for (int set = 0; asked_for != nullptr && set <= static_cast<int>(best); ++set)
    if (std::strcmp(asked_for, instruction_set_names[set]) == 0) return static_cast<InstructionSet>(set);
  return best;
}

// Returns the instruction set that was chosen, once per process. The environment variable FRACTALOPS_INSTRUCTION_SET
// selects another one that the processor has; fractalops/backends.py rejects all other names.
inline InstructionSet instruction_set() {
  static const InstructionSet chosen = find_instruction_set();
  return chosen;
}

// Returns the bytes of a vector in the copy that runs.
inline int64_t vector_bytes() {
  switch (instruction_set()) {
    case InstructionSet::avx512:
      return 64;
    case InstructionSet::avx2:
      return 32;
    default:
      return FRACTALOPS_BASELINE_BYTES;
  }
}

}  // namespace fractalops::cpu

// The copy of a function that runs on this processor: FRACTALOPS_SELECT(kernel<T>)(arguments).
#if defined(FRACTALOPS_HAS_COPIES)
#define FRACTALOPS_SELECT(...)                                                       \
  (::fractalops::cpu::instruction_set() == ::fractalops::cpu::InstructionSet::avx512 \
       ? ::fractalops::cpu::avx512::__VA_ARGS__                                      \
   : ::fractalops::cpu::instruction_set() == ::fractalops::cpu::InstructionSet::avx2 \
       ? ::fractalops::cpu::avx2::__VA_ARGS__                                        \
       : ::fractalops::cpu::baseline::__VA_ARGS__)
#else
#define FRACTALOPS_SELECT(...) (::fractalops::cpu::baseline::__VA_ARGS__)
#endif
