"""Iterated function systems as a differentiable PyTorch layer, and fractals learned for images by gradient descent.

The main entry points are `fit`, which learns a fractal for an image, the module `IFS`, and the function `render`, which
draws systems of affine maps as images. The method is that of "Learning Fractals by Gradient Descent" (AAAI 2023).
"""

import fractalops.interruptions  # noqa: F401 (before the slow imports, see its docstring)
from fractalops.backends import installed_version, list_backends, show_backends, use_backend
from fractalops.data.fractal_dataset import FractalDataset
from fractalops.embedding import FractalEmbedding
from fractalops.errors import BackendError, InputError, MissingExtra, RankError
from fractalops.fitting import FitConfig, FitResult, FitRun, PointConfig, PointFitResult, fit, fit_dataset, fit_points
from fractalops.ifs import IFS
from fractalops.ops.affine_chain import affine_chain
from fractalops.ops.rasterize_points import rasterize_points
from fractalops.ops.rbf_rasterize import rbf_rasterize
from fractalops.rendering import project, render, render_points
from fractalops.sampling import random_patches
from fractalops.systems import box_dimension

__all__ = [
    "IFS",
    "BackendError",
    "FitConfig",
    "FitResult",
    "FitRun",
    "FractalDataset",
    "FractalEmbedding",
    "InputError",
    "MissingExtra",
    "PointConfig",
    "PointFitResult",
    "RankError",
    "affine_chain",
    "box_dimension",
    "fit",
    "fit_dataset",
    "fit_points",
    "list_backends",
    "project",
    "random_patches",
    "rasterize_points",
    "rbf_rasterize",
    "render",
    "render_points",
    "show_backends",
    "use_backend",
]

__version__ = installed_version()
