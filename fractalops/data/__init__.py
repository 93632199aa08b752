"""Data sets: fractals for pre-training, and targets to learn."""
