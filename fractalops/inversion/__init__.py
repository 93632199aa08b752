"""Learning fractals by gradient descent: for images (paper sections 4.4 and 5.2) and for clouds of points."""

from fractalops.inversion.config import FitConfig
from fractalops.inversion.learning import FitInterrupted, fit
from fractalops.inversion.point_result import PointConfig, PointFitResult
from fractalops.inversion.points import PointFitInterrupted, fit_points
from fractalops.inversion.ranks import RankError
from fractalops.inversion.result import FitResult
from fractalops.inversion.run_report import FitRun
from fractalops.inversion.runs import RunInterrupted, fit_dataset

__all__ = [
    "FitConfig",
    "FitInterrupted",
    "FitResult",
    "FitRun",
    "PointConfig",
    "PointFitInterrupted",
    "PointFitResult",
    "RankError",
    "RunInterrupted",
    "fit",
    "fit_dataset",
    "fit_points",
]
