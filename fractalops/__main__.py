"""Entry point of `python -m fractalops`, which runs the command line."""

from __future__ import annotations

import sys

from fractalops.cli import main

if __name__ == "__main__":
    sys.exit(main())
