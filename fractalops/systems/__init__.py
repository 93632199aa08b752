"""Iterated function systems as plain tensors, without gradients, for reading, writing and drawing."""

from fractalops.systems.axes import from_right_and_up, to_right_and_up
from fractalops.systems.classics import CLASSICS, Classic, classic
from fractalops.systems.dimension import box_dimension, similarity_dimension
from fractalops.systems.random import SINGULAR_MARGIN, RandomSystems, device_for, random_systems, svd_parameters
from fractalops.systems.system import System

__all__ = [
    "CLASSICS",
    "SINGULAR_MARGIN",
    "Classic",
    "RandomSystems",
    "System",
    "box_dimension",
    "classic",
    "device_for",
    "from_right_and_up",
    "random_systems",
    "similarity_dimension",
    "svd_parameters",
    "to_right_and_up",
]
