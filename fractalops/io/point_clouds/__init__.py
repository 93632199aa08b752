"""Read and write point clouds: arrays, .ply files and text. Files .las and .laz can only be read."""

from fractalops.io.point_clouds.formats import read_point_cloud, save_point_cloud

__all__ = ["read_point_cloud", "save_point_cloud"]
