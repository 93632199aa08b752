"""Files in and out: pictures, point clouds, tensors, tables, run folders."""

from fractalops.io.picture_options import PictureOptions

__all__ = ["PictureOptions"]
