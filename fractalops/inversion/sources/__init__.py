"""Target images for learning many fractals, each read when it is asked for."""

from fractalops.inversion.sources.folder import FolderSource
from fractalops.inversion.sources.memory import TensorSource, collect
from fractalops.inversion.sources.opening import open_source
from fractalops.inversion.sources.source import Source

__all__ = ["FolderSource", "Source", "TensorSource", "collect", "open_source"]
