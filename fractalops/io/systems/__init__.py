"""Files of iterated function systems in and out: the field's formats and this package's own."""

from fractalops.io.systems.formats import open_systems, read_systems, write_systems

__all__ = ["open_systems", "read_systems", "write_systems"]
