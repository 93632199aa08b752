"""Data sets of fractals for pre-training, and data sets of target images to learn."""
