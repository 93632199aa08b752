"""The machine on which figures are measured, and its limits."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from fractalops.backends import installed_version

from .instructions import find_compiler
from .rows import Rates
from .timing import Clock, CpuClock, Spread, proc_bytes

AVX2_OPERATIONS = 16  # in a fused multiply-add of eight floats


@dataclass(frozen=True)
class Environment:
    """The processor, GPU and driver with which a row is measured."""

    processor: str
    gpu: str
    driver: str

    @classmethod
    def here(cls) -> Environment:
        """Return the environment of this process."""
        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
        return cls(_processor(), gpu, _driver() if gpu else "")

    def of(self, device: str) -> dict[str, str]:
        """Return the fields of a row for a device, "cpu" or "cuda"."""
        cuda = device == "cuda"
        return {
            "device_name": self.gpu if cuda else self.processor,
            "driver": self.driver if cuda else "",
            "cuda": (torch.version.cuda or "") if cuda else "",
            "torch": str(torch.__version__),
            "triton": _version("triton"),
            "python": platform.python_version(),
            "fractalops": installed_version(),
            "date": datetime.date.today().isoformat(),
        }


def free_bytes(device: str) -> int:
    """Return how many bytes a call may use on a device: half of the free memory, to leave room for other data."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0]) // 2
    with suppress(OSError, StopIteration):
        return proc_bytes("meminfo", "MemAvailable") // 2
    return sys.maxsize


def cores() -> int:
    """Return the number of cores on which this process may run."""
    with suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_rates(threads: int) -> Rates:
    """Measure the limits of a number of threads with a copy and a loop of multiply-adds."""
    clock = CpuClock(threads)
    bandwidth = copy_rate(clock)
    with clock:
        return Rates("cpu", threads, bandwidth, multiply_add_rate(threads))


def copy_rate(clock: Clock, size: int = 256 << 20) -> float:
    """Measure the rate of a copy of `size` bytes, in bytes read and written per second."""
    with clock:
        source = torch.ones(size, dtype=torch.uint8, device=clock.device)
        copy = torch.empty_like(source)
        return 2 * size / Spread.of(clock.time({"copy": [lambda: copy.copy_(source)]}, 9)["copy"]).median


def multiply_add_rate(threads: int) -> float | None:
    """Measure AVX2 multiply-adds of one process per thread, in float32 operations per second.

    Returns None without a C++ compiler or AVX2.
    """
    compiler = find_compiler()
    if not compiler:
        return None
    source = Path(__file__).with_name("multiply_adds.cpp")
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/multiply_adds"
        flags = ["-O3", "-mavx2", "-mfma", "-ffp-contract=fast"]
        built = subprocess.run([*compiler, *flags, str(source), "-o", program], capture_output=True)
        if built.returncode != 0:
            return None
        try:
            running = [subprocess.Popen([program], stdout=subprocess.PIPE, text=True) for _ in range(threads)]
        except OSError:  # a folder whose programs may not be run
            return None
        printed = [process.communicate()[0] for process in running]
        if any(process.returncode != 0 for process in running):
            return None
    return sum(map(float, printed)) * AVX2_OPERATIONS * 1e9


def describe(rates: list[Rates]) -> dict[str, str]:
    """Return a description of the machine, without values that are unknown."""
    environment = Environment.here()
    here = environment.of("cpu")
    lines = {
        "date": here["date"],
        "fractalops": here["fractalops"],
        "torch": f"{here['torch']}, Python {here['python']}, Triton {here['triton'] or 'missing'}",
        "processor": f"{environment.processor}, {cores()} cores for this process",
    }
    if environment.gpu:
        lines["GPU"] = f"{environment.gpu}, driver {environment.driver or 'unknown'}, CUDA {torch.version.cuda}"
    for rate in rates:
        most = [f"copies {rate.bytes_per_second / 1e9:.3g} GB/s"] if rate.bytes_per_second else []
        most += [f"multiply-adds {rate.operations_per_second / 1e9:.4g} Gop/s"] if rate.operations_per_second else []
        lines[f"at most, {rate.where}"] = ", ".join(most)
    return lines


def _processor() -> str:
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text()
        names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def _driver() -> str:
    """Return the version of NVIDIA's driver, or an empty string."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    with suppress(OSError, subprocess.CalledProcessError):
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")[0].strip()
    return ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
