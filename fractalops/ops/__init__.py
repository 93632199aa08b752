"""Public functions of the ops: argument checks and autograd, one file per op."""
