// Compiles csrc/cuda/affine_chain.cu for the CPU.
#include "library.h"

#include "../../csrc/cuda/affine_chain.cu"
