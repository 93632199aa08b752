"""Target images for learning many fractals, each read when it is asked for."""

from fractalops.inversion.sources.folder import FolderSource
from fractalops.inversion.sources.memory import Indexed, TensorSource, collect
from fractalops.inversion.sources.opening import open_source
from fractalops.inversion.sources.source import Source

__all__ = ["FolderSource", "Indexed", "Source", "TensorSource", "collect", "open_source"]
