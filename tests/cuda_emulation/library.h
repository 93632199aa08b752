// Turns the CUDA source that is included after this file into a library of ops for CPU tensors,
// torch.ops.fractalops_emulated.
#pragma once

#include <cuda_runtime.h>

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>

// The source registers its ops for CUDA. Here they are registered for the CPU, in another namespace.
#undef STABLE_TORCH_LIBRARY_IMPL
#define STABLE_TORCH_LIBRARY_IMPL(ns, key, library) \
  _STABLE_TORCH_LIBRARY_IMPL(fractalops_emulated, CPU, library, C10_UID)

namespace fractalops::cuda {
alignas(16) unsigned char dynamic_shared[emulation::shared_memory_size];
const bool registered = emulation::shared_memory.use(dynamic_shared);
}  // namespace fractalops::cuda

// Functions that a CPU build of torch lacks, or that fail without a device.
AOTITorchError aoti_torch_get_current_cuda_stream(int32_t, void** stream) {
  *stream = nullptr;
  return 0;
}
AOTITorchError aoti_torch_create_device_guard(int32_t, DeviceGuardHandle* guard) {
  *guard = nullptr;
  return 0;
}
AOTITorchError aoti_torch_delete_device_guard(DeviceGuardHandle) { return 0; }
