"""Data sets of target images for learning many fractals. Each image has a name."""

from fractalops.data.targets.dataset import TargetDataset
from fractalops.data.targets.opening import open_targets
from fractalops.data.targets.pictures import PictureFiles, PictureFolder
from fractalops.data.targets.stack import StackTargets
from fractalops.data.targets.tensors import Indexed, TensorTargets

__all__ = ["Indexed", "PictureFiles", "PictureFolder", "StackTargets", "TargetDataset", "TensorTargets", "open_targets"]
