"""Build for the GPU of this machine, then check, test and measure on it in a limited time: `python -m bench gpu`.

The parts with the most important results run first. Results are written as soon as they are known.
"""

from __future__ import annotations

import argparse
import datetime
import os
import signal
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch

from fractalops.backends import versions

from ..machine import cores
from .runner import Part, Runner, python

SECONDS = 570.0
TEST_FILES = (
    "tests/ops/test_affine_chain_cuda.py",
    "tests/ops/test_rbf_rasterize_triton.py",
    "tests/ops/test_draw_balanced_index_cuda.py",
    "tests/ops/test_rasterize_points_triton.py",
    "tests/fitting/test_step_graph.py",
    "tests/test_gpu_host_code.py",
    "tests/ops/test_affine_chain_cuda_limits.py",
    "tests/test_rendering_color.py",
    "tests/ops/test_autocast.py",
    "tests/ops/test_op_errors.py",
    "tests/bench/test_cuda_timing.py",
)
"""All files with tests that need a GPU, the most important first."""
BENCHMARKS = ("affine_chain", "rbf_rasterize", "render", "step", "fit", "rasterize_points")


def main(argv: Sequence[str] | None = None) -> int:
    """Run all parts. Return 1 if one fails or there is no GPU, else 0."""
    parser = argparse.ArgumentParser(
        prog="python -m bench gpu",
        description="Build for the GPU of this machine, and check, test and measure on it. Results are written as soon "
        "as they are known, so that an interrupted run keeps them.",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=SECONDS,
        help="seconds after which all parts are ended (default: %(default)s)",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("gpu-results"), help="folder for the results (default: %(default)s)"
    )
    options = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print("gpu: torch finds no NVIDIA GPU", file=sys.stderr)
        return 1
    return run(options.output, options.seconds, parts(options.output))


def run(folder: Path, seconds: float, chosen: Sequence[Part]) -> int:
    """Run the parts and write their results to `folder`. Return the exit code, which is 130 after Ctrl-C."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("TRITON_INTERPRET", "FRACTALOPS_BACKEND", "FRACTALOPS_DEBUG"):  # they change what runs
        os.environ.pop(name, None)
    os.environ["PYTHONUNBUFFERED"] = "1"  # so that a part that is killed loses no output
    os.environ["PATH"] += f"{os.pathsep}/usr/local/cuda/bin"  # the usual folder of compute-sanitizer
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that results are also kept after a time limit
    try:
        return Runner(folder, seconds, chosen, about()).run()
    except KeyboardInterrupt:
        return 130


def about() -> dict[str, str]:
    """Return the date, the device and the versions."""
    device = "none"
    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        device = f"{torch.cuda.get_device_name()}, sm_{major}{minor}"
    return {"date": datetime.date.today().isoformat(), "device": device, "CUDA": torch.version.cuda or "", **versions()}


def parts(folder: Path) -> list[Part]:
    """Return the parts with their commands and their time limits in seconds."""
    module = "bench.gpu"
    compiling = max(1, min(6, cores() - 2))
    return [
        Part("machine", ("nvidia-smi", "-q", "-d", "MEMORY,CLOCK,POWER"), 15, program="nvidia-smi"),
        Part("build", python("-m", f"{module}.build"), 150),
        Part("backends", python("-m", "fractalops", "info"), 30),
        Part("ops against float64", python("-m", f"{module}.check_ops"), 90),
        # These three parts run in parallel with the tests.
        Part("sweep's kernels", python("-m", "bench", "sweep", "--compile", str(compiling)), 240, background=True),
        Part("racecheck", sanitizer("racecheck"), 150, background=True, program="compute-sanitizer"),
        Part("memcheck", sanitizer("memcheck"), 150, background=True, program="compute-sanitizer"),
        Part("tests", tests(folder / "tests.xml"), 240),
        Part("graphs of steps", python("-m", f"{module}.step_graphs"), 60, alone=True),
        Part("benchmark", benchmark(folder / "benchmark.html"), 130, alone=True),
        Part("sweep", python("-m", "bench", "sweep", "--records"), 240, alone=True),
    ]


def sanitizer(tool: str) -> tuple[str, ...]:
    """Return the command that runs all kernels under a tool of compute-sanitizer."""
    options = ("--racecheck-report", "all") if tool == "racecheck" else ()
    command = ("compute-sanitizer", "--tool", tool, *options, "--print-limit", "60", "--error-exitcode", "9")
    # torch's memory cache is off, because it hides accesses outside of a tensor.
    return ("env", "PYTORCH_NO_CUDA_MEMORY_CACHING=1", *command, *python("-m", "bench.gpu.run_kernels"))


def tests(report: Path) -> tuple[str, ...]:
    """Return the command of all tests for GPUs, including the slow ones. It writes a JUnit report."""
    options = ["-m", "gpu", "-v", "-p", "no:cacheprovider", "--maxfail=100", "--tb=short", f"--junitxml={report}"]
    if find_spec("xdist") is not None:
        options += ["-n", str(max(1, min(8, cores() // 2)))]
    if find_spec("pytest_timeout") is not None:
        options += ["--timeout=120"]  # torch.compile takes up to a minute
    # With the first variable, a test that finds no GPU fails instead of skipping. With the second one, the processes
    # share the cores.
    return ("env", "FRACTALOPS_TEST_REQUIRE=gpu", "OMP_NUM_THREADS=2", *python("-m", "pytest", *options, *TEST_FILES))


def benchmark(page: Path) -> tuple[str, ...]:
    """Return the command of the quick benchmark. It writes the page and a .json file of the figures."""
    options = ("--quick", "--device", "cuda", "--threads", str(cores()), "--output", str(page), "--overwrite")
    return python("-m", "fractalops", "bench", *BENCHMARKS, *options)
