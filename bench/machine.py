"""What the figures were measured on."""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

from fractalops.dispatch import installed_version


def describe() -> dict[str, str]:
    """Date, versions, processor, and how fast one core is; a line that can't be had is left out."""
    lines = {
        "date": datetime.date.today().isoformat(),
        "versions": f"fractalops {installed_version()}, torch {torch.__version__}, Python {platform.python_version()}",
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores for this process",
        "threads": f"up to {torch.get_num_threads()}, stated for each figure",
    }
    rate = fma_rate()
    if rate is not None:
        lines["fused multiply-add"] = (
            f"{16 * rate:.0f} Gflop/s on one core: AVX2, float32, as {rate / 2:.2f} GHz at two a cycle"
        )
    return lines


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


def fma_rate() -> float | None:
    """AVX2 fused multiply-add instructions of one core in a nanosecond; None without a compiler or AVX2."""
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX", ""), "c++", "g++", "clang++"))), None)
    if compiler is None:
        return None
    source = Path(__file__).with_name("fma_rate.cpp")
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/fma_rate"
        flags = ["-O3", "-mavx2", "-mfma", "-ffp-contract=fast"]
        try:
            subprocess.run([compiler, *flags, str(source), "-o", program], check=True, capture_output=True)
            done = subprocess.run([program], check=True, capture_output=True, text=True)
        except subprocess.CalledProcessError:
            return None
    return float(done.stdout)
