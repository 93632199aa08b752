// Compiles csrc/cuda/draw_balanced_index.cu for the CPU.
#include "library.h"

#include "../../csrc/cuda/draw_balanced_index.cu"
