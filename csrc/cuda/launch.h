// Launches of kernels on torch's current stream of the tensors' device.
#pragma once

#include <cuda_runtime.h>

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

#include <algorithm>

#include "../tensors.h"

namespace fractalops::cuda {

// The device and the stream on which an op runs. The device of the op's tensors, which must have been checked, is the
// current one during the lifetime of this object.
class Launcher {
 public:
  Launcher(const char* op, const Tensor& tensor) : Launcher(op, tensor.get_device_index()) {}

  // kernel<<<blocks, threads, shared_bytes>>>(arguments...)
  template <typename... Parameters>
  void launch(void (*kernel)(Parameters...), int64_t blocks, dim3 threads, int64_t shared_bytes,
              std::type_identity_t<Parameters>... arguments) const {
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(static_cast<unsigned>(blocks));
    config.blockDim = threads;
    config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
    config.stream = stream_;
    const cudaError_t error = cudaLaunchKernelEx(&config, kernel, arguments...);
    STD_TORCH_CHECK(error == cudaSuccess, op_, ": a kernel launch failed: ", cudaGetErrorString(error));
  }

 private:
  Launcher(const char* op, int32_t device) : op_(op), guard_(device) {
    void* stream = nullptr;
    STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream(device, &stream) == AOTI_TORCH_SUCCESS, op,
                    ": torch has no current stream for CUDA device ", device);
    stream_ = static_cast<cudaStream_t>(stream);
  }

  const char* op_;
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_ = nullptr;
};

// Kernels that are launched with `grid` loop over their items, so they never need more blocks than this. The hardware's
// limit is 2^31 - 1.
inline constexpr int64_t largest_grid = 1 << 16;

inline int64_t grid(int64_t items) { return std::min(items, largest_grid); }

}  // namespace fractalops::cuda
