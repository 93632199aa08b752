"""The Triton kernels, one file per op, installed as `fractalops.kernels`."""
