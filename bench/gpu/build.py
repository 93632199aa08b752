"""Build both native libraries in the source folder, only for the GPU of this machine: `python -m bench.gpu.build`."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("kernels", "bench")
"""Folders that are `fractalops.kernels` and `fractalops.bench` in an installed package."""


def main() -> int:
    """Build the libraries in parallel. Return 1 if one does not compile, else 0."""
    link_folders(ROOT)
    major, minor = torch.cuda.get_device_capability()
    os.environ["TORCH_CUDA_ARCH_LIST"] = f"{major}.{minor}"
    build = runpy.run_path(str(ROOT / "setup.py"))

    def compile_library(name: str) -> bool:
        try:
            build["compile_library"](name, ROOT / "fractalops" / f"_{name}.so", ROOT / "build" / "gpu" / name)
        except (subprocess.CalledProcessError, build["BuildError"]) as error:
            print(f"build: the {name} library: {error}", file=sys.stderr)
            return False
        return True

    with ThreadPoolExecutor() as pool:
        return int(not all(list(pool.map(compile_library, ("cuda", "cpu")))))


def link_folders(root: Path) -> None:
    """Create links to the folders in the package, as in an installation, unless they can be imported already."""
    for name in FOLDERS:
        if find_spec(f"fractalops.{name}") is None:
            (root / "fractalops" / name).symlink_to(Path("..") / name)


if __name__ == "__main__":
    raise SystemExit(main())
