// csrc/cuda/affine_chain.cu on the CPU.
#include "library.h"

#include "../../csrc/cuda/affine_chain.cu"
