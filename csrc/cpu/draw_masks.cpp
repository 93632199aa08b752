// draw_masks on the CPU: the op's registration and how its work is split. The drawing is in draw_masks_kernel.h. Shapes
// are checked in fractalops/ops/draw_masks.py and, for direct calls of the op, here.
#include <cstdint>

#include "../tensors.h"
#include "split_tasks.h"

#define FRACTALOPS_NARROW_KERNEL
#define FRACTALOPS_KERNEL "draw_masks_kernel.h"
#include "foreach_instruction_set.h"

namespace fractalops::cpu {
namespace {

Tensor draw_masks(const Tensor& seed_in, int64_t count) {
  check_tensors("draw_masks", {{"seed", seed_in, "B", only<int64_t>("int64")}});
  const Tensor seed = torch::stable::contiguous(seed_in);  // (B)
  STD_TORCH_CHECK(count >= 1, "draw_masks: count must be at least 1, got ", count);
  Tensor mask = allocate(seed, {seed.size(0), count}, ScalarType::Short);  // (B, count)
  const int64_t* seeds = data<int64_t>(seed);                              // (B)
  int16_t* masks = mutable_data<int16_t>(mask);                            // (B, count)
  constexpr double mask_time = 1;                                          // nanoseconds
  split_tasks(seed.size(0), mask_time * static_cast<double>(count), [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b)
      FRACTALOPS_SELECT(draw_masks)(static_cast<uint64_t>(seeds[b]), count, masks + b * count);
  });
  return mask;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fractalops, CPU, library) { library.impl(FRACTALOPS_OP(draw_masks)); }

}  // namespace fractalops::cpu
