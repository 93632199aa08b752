"""Iterated function systems as plain tensors: the form in which they are read, written and drawn."""

from fractalops.systems.random import SINGULAR_MARGIN, RandomSystems, device_for, random_systems, svd_parameters
from fractalops.systems.system import System

__all__ = ["SINGULAR_MARGIN", "RandomSystems", "System", "device_for", "random_systems", "svd_parameters"]
