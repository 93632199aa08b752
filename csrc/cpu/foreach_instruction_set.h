// Includes FRACTALOPS_KERNEL once for the baseline and, on x86-64, once for AVX2 with fused multiply-add and once for
// AVX-512. Each copy has its own namespace, so that a wheel built on one machine is fast on another. A copy has vectors
// of FRACTALOPS_VECTOR_BYTES and registers of FRACTALOPS_REGISTER_BYTES. A kernel that uses neither defines
// FRACTALOPS_NARROW_KERNEL. It then has no copy for AVX-512, and the copy for AVX2 runs instead.
//
// `target_clones` is no alternative, because GCC splits vector types for the baseline before it clones. Two objects
// compiled with different flags are no alternative, because the linker could pick a shared inline function from the
// object that the processor cannot run.
#include "instruction_set.h"

#if !defined(FRACTALOPS_KERNEL)
#error "define FRACTALOPS_KERNEL as the kernel's header"
#endif

#define FRACTALOPS_ISA baseline
#define FRACTALOPS_VECTOR_BYTES FRACTALOPS_BASELINE_BYTES
#if FRACTALOPS_BASELINE_BYTES == 64 && defined(__AVX2__)
#define FRACTALOPS_REGISTER_BYTES 64
#elif defined(__AVX2__)
#define FRACTALOPS_REGISTER_BYTES 32
#else
#define FRACTALOPS_REGISTER_BYTES 16
#endif
#include FRACTALOPS_KERNEL
#undef FRACTALOPS_ISA
#undef FRACTALOPS_VECTOR_BYTES
#undef FRACTALOPS_REGISTER_BYTES

#if defined(FRACTALOPS_HAS_COPIES)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define FRACTALOPS_ISA avx2
#define FRACTALOPS_VECTOR_BYTES 32
#define FRACTALOPS_REGISTER_BYTES 32
#include FRACTALOPS_KERNEL
#undef FRACTALOPS_ISA
#undef FRACTALOPS_VECTOR_BYTES
#undef FRACTALOPS_REGISTER_BYTES
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#if defined(FRACTALOPS_NARROW_KERNEL)
namespace fractalops::cpu::avx512 {
using namespace avx2;
}
#else
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
#endif
#define FRACTALOPS_ISA avx512
#define FRACTALOPS_VECTOR_BYTES 64
#define FRACTALOPS_REGISTER_BYTES 64
#include FRACTALOPS_KERNEL
#undef FRACTALOPS_ISA
#undef FRACTALOPS_VECTOR_BYTES
#undef FRACTALOPS_REGISTER_BYTES
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
#endif

#undef FRACTALOPS_KERNEL
#undef FRACTALOPS_NARROW_KERNEL
