// csrc/cuda/draw_balanced_index.cu on the CPU.
#include "library.h"

#include "../../csrc/cuda/draw_balanced_index.cu"
