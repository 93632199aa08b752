"""Learning of fractals by gradient descent, for images (paper sections 4.4 and 5.2) and for point clouds."""

from fractalops.fitting.config import FitConfig
from fractalops.fitting.learning import fit
from fractalops.fitting.point_result import PointConfig, PointFitResult
from fractalops.fitting.points import fit_points
from fractalops.fitting.result import FitResult
from fractalops.fitting.run_report import FitRun
from fractalops.fitting.runs import fit_dataset

__all__ = ["FitConfig", "FitResult", "FitRun", "PointConfig", "PointFitResult", "fit", "fit_dataset", "fit_points"]
