// The rasterizer in float32, which takes a compiler a minute: rbf_rasterize.cpp compiles it for all, with
// FRACTALOPS_INSTANCE empty; others include this with FRACTALOPS_INSTANCE as `extern`.
//
// Included once for each instruction set, after the kernel.

namespace fractalops::cpu::FRACTALOPS_ISA {

FRACTALOPS_INSTANCE template void rbf_rasterize_forward<float>(const Raster<float>&, const float*, const float*,
                                                               int64_t, float*, float*, float*, PartialSums<float>*);
FRACTALOPS_INSTANCE template double rbf_rasterize_backward<float>(const Raster<float>&, const float*, const float*,
                                                                  const float*, int64_t, int64_t, bool, float*, float*,
                                                                  float*, float*);

}  // namespace fractalops::cpu::FRACTALOPS_ISA
