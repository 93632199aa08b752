"""Learning fractals by gradient descent: for images (paper sections 4.4 and 5.2) and for clouds of points."""

from fractalops.inversion.config import FitConfig
from fractalops.inversion.learning import FitInterrupted, fit
from fractalops.inversion.point_result import PointConfig, PointFitResult
from fractalops.inversion.points import PointFitInterrupted, fit_points
from fractalops.inversion.result import FitResult

__all__ = [
    "FitConfig",
    "FitInterrupted",
    "FitResult",
    "PointConfig",
    "PointFitInterrupted",
    "PointFitResult",
    "fit",
    "fit_points",
]
