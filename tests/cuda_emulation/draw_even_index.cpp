// csrc/cuda/draw_even_index.cu on the CPU.
#include "library.h"

#include "../../csrc/cuda/draw_even_index.cu"
