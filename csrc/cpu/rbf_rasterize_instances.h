// Explicit instances of the float32 rasterizer, which takes a minute to compile. rbf_rasterize.cpp compiles it for all
// other files, with an empty FRACTALOPS_INSTANCE. They include this file with FRACTALOPS_INSTANCE defined as `extern`.
//
// This file is included once per instruction set, after the kernel.

namespace fractalops::cpu::FRACTALOPS_ISA {

FRACTALOPS_INSTANCE template void rbf_rasterize_forward<float>(const Raster<float>&, const float*, const float*,
                                                               int64_t, float*, float*, float*, PartialSums<float>*);
FRACTALOPS_INSTANCE template double rbf_rasterize_backward<float>(const Raster<float>&, const float*, const float*,
                                                                  const float*, int64_t, int64_t, bool, float*, float*,
                                                                  float*, float*);

}  // namespace fractalops::cpu::FRACTALOPS_ISA
