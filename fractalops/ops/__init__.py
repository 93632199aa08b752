"""Differentiable ops: schema, autograd and checks, one file for each op."""
