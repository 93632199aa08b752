"""Learning fractals for images by gradient descent (paper sections 4.4 and 5.2)."""

from fractalops.inversion.config import FitConfig
from fractalops.inversion.learning import FitInterrupted, fit
from fractalops.inversion.result import FitResult

__all__ = ["FitConfig", "FitInterrupted", "FitResult", "fit"]
