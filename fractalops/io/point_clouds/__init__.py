"""Clouds of points in and out: arrays, .ply and text, and .las files in."""

from fractalops.io.point_clouds.formats import read_point_cloud, save_point_cloud

__all__ = ["read_point_cloud", "save_point_cloud"]
