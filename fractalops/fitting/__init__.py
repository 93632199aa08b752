"""Learning fractals by gradient descent: for images (paper sections 4.4 and 5.2) and for clouds of points."""

from fractalops.fitting.config import FitConfig
from fractalops.fitting.learning import FitInterrupted, fit
from fractalops.fitting.point_result import PointConfig, PointFitResult
from fractalops.fitting.points import PointFitInterrupted, fit_points
from fractalops.fitting.ranks import RankError
from fractalops.fitting.result import FitResult
from fractalops.fitting.run_report import FitRun
from fractalops.fitting.runs import RunInterrupted, fit_dataset

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
