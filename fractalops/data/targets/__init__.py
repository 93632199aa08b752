"""Target images for learning many fractals, each read when it is asked for."""

from fractalops.data.targets.dataset import Source
from fractalops.data.targets.opening import open_source
from fractalops.data.targets.pictures import FolderSource
from fractalops.data.targets.tensors import Indexed, TensorSource, collect

__all__ = ["FolderSource", "Indexed", "Source", "TensorSource", "collect", "open_source"]
