// C functions through which fractalops/backends.py reads the kernels' instruction set and whether they have used
// threads.
#include "instruction_set.h"

#include "split_tasks.h"

namespace fractalops::cpu {
namespace {

// The names up to each instruction set.
constexpr const char* names_so_far[] = {"baseline", "baseline avx2", "baseline avx2 avx512"};

}  // namespace
}  // namespace fractalops::cpu

#define EXPORTED extern "C" __attribute__((visibility("default")))

// Returns the name of the instruction set that the kernels use.
EXPORTED const char* kernel_instruction_set() {
  return fractalops::cpu::instruction_set_names[static_cast<int>(fractalops::cpu::instruction_set())];
}

// Returns the names of the instruction sets that the processor has, the best one last.
EXPORTED const char* processor_instruction_sets() {
  return fractalops::cpu::names_so_far[static_cast<int>(fractalops::cpu::best_instruction_set())];
}

// Returns whether the kernels have run on several threads.
EXPORTED bool kernels_used_threads() { return fractalops::cpu::used_threads; }
