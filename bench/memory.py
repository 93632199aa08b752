"""How much the process's peak memory grows in forward and backward: `python -m bench.memory POINTS SIDE THREADS`.

Run in a process of its own by `memory_growth`, as a peak never goes back.
"""

from __future__ import annotations

import ctypes
import json
import resource
import subprocess
import sys
from pathlib import Path

import torch

from bench.cases import Case
from bench.subjects import render_and_differentiate

MEGABYTE = 10**6
Growth = dict[str, float]


def memory_growth(case: Case, threads: int) -> Growth:
    """Megabytes by which the peak grows, by each of two ways to ask for it: all that one call makes."""
    command = [sys.executable, "-m", "bench.memory", *map(str, (case.points, case.side, threads))]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, check=True, capture_output=True, text=True)
    growth: Growth = json.loads(done.stdout)
    return growth


def _status(field: str) -> float:
    """VmHWM (the peak) or VmRSS (resident now) of this process, in megabytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024 / MEGABYTE
    raise RuntimeError(f"/proc/self/status has no {field}")


def _maxrss() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGABYTE


def main() -> None:
    points, side, threads = map(int, sys.argv[1:])
    torch.set_num_threads(threads)
    render_and_differentiate("native", Case("warm-up", 2, 300, 10, 32))()
    run = render_and_differentiate("native", Case("measured", 1, points, 10, side))
    ctypes.CDLL(None).malloc_trim(0)  # what was freed but not given back would hide growth
    # ru_maxrss starts at the peak of the process that started this one, so it can hide growth. What is resident now may
    # lie below the peak of the imports, so the growth above it is the harder figure.
    maxrss, resident = _maxrss(), _status("VmRSS")
    run()
    growth = {"ru_maxrss": _maxrss() - maxrss, "VmHWM above VmRSS": _status("VmHWM") - resident}
    print(json.dumps(growth))


if __name__ == "__main__":
    main()
