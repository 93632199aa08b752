"""Triton kernels, one file for each op; installed as `fractalops.kernels`."""
