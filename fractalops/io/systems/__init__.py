"""Read and write files of iterated function systems: common formats of other programs, and this package's own."""

from fractalops.io.systems.formats import open_systems, read_systems, write_systems

__all__ = ["open_systems", "read_systems", "write_systems"]
