"""Target images for learning many fractals, each read when it is asked for."""

from fractalops.data.targets.folder import FolderSource
from fractalops.data.targets.memory import Indexed, TensorSource, collect
from fractalops.data.targets.opening import open_source
from fractalops.data.targets.source import Source

__all__ = ["FolderSource", "Indexed", "Source", "TensorSource", "collect", "open_source"]
