"""Tests of out-of-memory errors of native ops and commands: one line with the op and the bytes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command_line import ENVIRONMENT

# The script runs in a separate process. Its address space may grow by 512 MiB.
SCRIPT = r"""
import resource, sys
from pathlib import Path
import torch
import fractalops
from fractalops.cli import main

folder = sys.argv[1]
matrix, offset = torch.full((4, 2, 2), 0.3), torch.zeros(4, 2)
ops = torch.ops.fractalops
row = torch.zeros(1, 1, dtype=torch.uint8)
start = torch.zeros(1, 2)
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 2**29,) * 2)
calls = [
    lambda: fractalops.render(matrix, offset, row, 60_000),
    lambda: fractalops.render(matrix, offset, row, 11_000),
    lambda: fractalops.rbf_rasterize(torch.zeros(1, 5000, 2), (2, 2**22 - 1), weight=torch.ones(1, 5000, 5)),
    lambda: ops.draw_masks(torch.zeros(1, dtype=torch.int64), 10**9),
    lambda: ops.affine_chain_fwd(matrix, offset, row.expand(1, 10**9), start),
    lambda: ops.svd_matrix_fwd(torch.zeros(1, 6).expand(10**8, 6), False),
]
for call in calls:
    try:
        call()
    except RuntimeError as error:
        print(error)
render = ["systems", "fern", "-o", f"{folder}/fern.png", "--size", "16384", "--points", "1000"]
print(main(render))
assert fractalops.render(matrix, offset, row, 8).shape == (1, 8, 8)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits its own address space")
def test_native_ops_name_themselves_and_the_bytes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    environment = {**ENVIRONMENT, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    image, canvas, sums, mask, *copies, code = done.stdout.splitlines()
    asked = "not enough memory: tried to allocate"
    assert image == f"rbf_rasterize_fwd: {asked} {4 * 60_000**2} bytes"
    assert canvas.startswith(f"rbf_rasterize_fwd: {asked} ")  # allocated in a thread
    assert int(canvas.split()[-2]) >= 4 * 11_000**2
    assert sums == f"rbf_rasterize_fwd: {asked} {8 * 5 * 2 * (2**22 - 1)} bytes"
    assert mask == f"draw_masks: {asked} {2 * 10**9} bytes"
    assert copies == [
        f"{op}: not enough memory for a contiguous copy of an argument" for op in ("affine_chain_fwd", "svd_matrix_fwd")
    ]
    assert code == "2"
    (line,) = done.stderr.splitlines()
    assert line.startswith("fractalops systems: there is not enough memory for these options: ")
    assert line.endswith(" bytes could not be allocated")
