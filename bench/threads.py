"""Count the instructions of the rasterizer's threads when they draw one large image.

`python -m bench threads` prints a table for clouds of a million points and 1 to 32 threads. It has the instructions of
the slowest thread, divided by the mean of all threads, and the speed-up over one thread in instructions. Callgrind
counts the instructions of the kernel and of counting, planning and sorting by strips. The counts don't include the cost
of caches, memory and waiting.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

import fractalops

from . import instructions
from .suites import FORWARD, Case
from .table import aligned

SOURCE = Path(__file__).with_suffix(".cpp")
THREADS = (1, 2, 4, 8, 16, 32)
SIDES = (256, 1024)
POINTS = 10**6

# matrix (N, 2, 2), offset (N, 2), probability (N,)
MAPS = {
    "Sierpinski's triangle": (
        [[[0.5, 0.0], [0.0, 0.5]]] * 3,
        [[0.0, 0.0], [0.5, 0.0], [0.25, 0.5]],
        [1 / 3] * 3,
    ),
    "Barnsley's fern": (
        [
            [[0, 0], [0, 0.16]],
            [[0.85, 0.04], [-0.04, 0.85]],
            [[0.2, -0.26], [0.23, 0.22]],
            [[-0.15, 0.28], [0.26, 0.24]],
        ],
        [[0, 0], [0, 1.6], [0, 1.6], [0, 0.44]],
        [0.01, 0.85, 0.07, 0.07],
    ),
}
CLOUDS = ("uniform", *MAPS)


def make_cloud(name: str, points: int, side: int) -> Tensor:
    """Return points (T, 2) that fill an image of this side. The picture is upright."""
    generator = torch.Generator().manual_seed(0)
    if name == "uniform":
        return torch.rand(points, 2, generator=generator) * (side - 1)
    matrix, offset, probability = map(torch.tensor, MAPS[name])
    index = torch.multinomial(probability, points, replacement=True, generator=generator).to(torch.uint8)
    cloud = fractalops.affine_chain(matrix, offset, index[None], torch.zeros(1, 2))[0]  # x to the right, y upwards
    low, high = cloud.amin(0), cloud.amax(0)
    right, up = ((cloud - low) / (high - low) * (side - 1)).unbind(1)
    return torch.stack([side - 1 - up, right], dim=1)


@dataclass(frozen=True)
class Cost:
    """The instructions of the kernel for a point and for a row."""

    of_point: float
    of_row: float  # to clear and copy the row


def count_cost(program: Path, side: int) -> Cost:
    """Count the instructions on images of few points."""
    few, more = (
        instructions.count(program, "rbf_rasterize", FORWARD, Case("", 1, points, 1, side)) for points in (4000, 8000)
    )
    of_point = (more - few) / 4000
    return Cost(of_point, (few - 4000 * of_point) / side)


@dataclass(frozen=True)
class Split:
    """A division of an image among threads, and its instructions."""

    sorting: int
    drawing: tuple[float, ...]  # instructions of each part
    strips: int
    points: int  # points drawn; one in the halos of several strips counts several times
    threads: int

    @property
    def slowest(self) -> float:
        """The instructions of the slowest thread."""
        return self.sorting + max(self.drawing)

    @property
    def mean(self) -> float:
        """The mean of the instructions of all threads."""
        return self.sorting + sum(self.drawing) / self.threads


def split(program: Path, cloud: Path, points: int, side: int, threads: int, cost: Cost) -> Split:
    """Return how the op divides a cloud, a file of float32 pairs, among threads."""
    printed, sorting = instructions.run_counted(program, str(cloud), str(points), str(side), "1.0", str(threads))
    parts = [tuple(map(int, line.split())) for line in printed.splitlines()]  # strips, rows and points of each part
    return Split(
        sorting,
        tuple(cost.of_point * drawn + cost.of_row * rows for _, rows, drawn in parts),
        sum(strips for strips, _, _ in parts),
        sum(drawn for _, _, drawn in parts),
        threads,
    )


def table(points: int = POINTS, sides: Sequence[int] = SIDES, threads: Sequence[int] = THREADS) -> str:
    """Count and return the table. The first number of threads must be 1."""
    lines = [("points", "pixels", "threads", "parts", "strips", "drawn", "sorting", "slowest / mean", "speed-up")]
    with TemporaryDirectory() as name:
        folder = Path(name)
        kernel = instructions.compile_program(folder)
        program = instructions.compile_program(folder, SOURCE)
        for side in sides:
            cost = count_cost(kernel, side)
            for shape in CLOUDS:
                cloud = folder / "cloud"
                cloud.write_bytes(make_cloud(shape, points, side).numpy().tobytes())
                splits = {count: split(program, cloud, points, side, count, cost) for count in threads}
                for count, each in splits.items():
                    lines.append(
                        (
                            shape,
                            f"{side} x {side}",
                            str(count),
                            str(len(each.drawing)),
                            str(each.strips),
                            f"{each.points / points:.2f}",
                            f"{each.sorting / each.slowest:.0%}",
                            f"{each.slowest / each.mean:.2f}",
                            f"{splits[threads[0]].slowest / each.slowest:.2f} x",
                        )
                    )
    return "\n".join(aligned(lines))


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table. Return 2 if this machine can't count, else 0."""
    argparse.ArgumentParser(prog="python -m bench threads", description=__doc__).parse_args(argv)
    problem = instructions.find_problem()
    if problem:
        print(f"threads: {problem}", file=sys.stderr)
        return 2
    print(table())
    return 0
