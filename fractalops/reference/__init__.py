"""Definitions of all ops in plain PyTorch. Every backend is compared with them."""
