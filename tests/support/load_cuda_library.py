"""Load the CUDA library into the torch of this Python and check that its ops are registered; no GPU needed.

Only torch has to be installed. It tests a library that was built against a CPU-only torch in a CUDA build of torch.
Exits with 1 and the reason if the library can't be loaded or registers nothing.
"""

from __future__ import annotations

import argparse
import platform
import runpy
import sys
import time
from pathlib import Path

import torch

PACKAGE = Path(__file__).parents[2] / "fractalops"
OPS = ("affine_chain_fwd", "affine_chain_bwd", "draw_balanced_index")


def main(library: Path) -> int:
    print(f"Python {platform.python_version()}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    print(library)
    if not library.exists():
        print("failed: the library was not built (FRACTALOPS_BUILD=all)")
        return 1
    if torch.version.cuda is None:
        print("failed: this torch was built without CUDA")
        return 1
    schemas = runpy.run_path(str(PACKAGE / "op_table.py"))["SCHEMAS"]  # without the package's other dependencies
    fragment = torch.library.Library("fractalops", "FRAGMENT")
    for schema in schemas:
        fragment.define(schema)
    start = time.perf_counter()
    try:
        torch.ops.load_library(library)
    except OSError as error:
        print(f"failed: {error.__cause__ or error}")
        return 1
    print(f"loaded in {1e3 * (time.perf_counter() - start):.1f} ms, {len(schemas)} schemas defined")
    registered = [torch._C._dispatch_has_kernel_for_dispatch_key(f"fractalops::{op}", "CUDA") for op in OPS]
    for op, found in zip(OPS, registered, strict=True):
        print(f"fractalops::{op} has a kernel for CUDA: {found}")
    return 0 if all(registered) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", nargs="?", type=Path, default=PACKAGE / "_cuda.so", help="default: %(default)s")
    sys.exit(main(parser.parse_args().library.resolve()))
