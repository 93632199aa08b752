"""The plain-PyTorch definition of every op: what each backend is held to."""
