"""Read and write files: pictures, point clouds, systems, tensors, tables and run folders."""

from fractalops.io.picture_options import PictureOptions
from fractalops.io.systems import read_systems, write_systems

__all__ = ["PictureOptions", "read_systems", "write_systems"]
