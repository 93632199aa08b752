"""Create the point clouds that point_cloud.py learns: fern.npy and tree.npy, with 6,000 points each.

python examples/draw_point_clouds.py [FOLDER]
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from fractalops.io.point_clouds import save_point_cloud
from fractalops.sampling import sample_attractor

POINTS = 6000


def rotation(axis: int, degrees: float) -> Tensor:
    """Return the rotation matrix (3, 3) around one of the axes."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix = torch.eye(3)
    matrix[first, first] = matrix[second, second] = cos
    matrix[second, first], matrix[first, second] = sin, -sin
    return matrix


def fern(points: int = POINTS, seed: int = 0) -> Tensor:
    """Return points (P, 3) of a fern like Barnsley's, which bends from the third axis to the first, and twists."""
    stem = torch.diag(torch.tensor([0.01, 0.01, 0.17]))
    frond = 0.85 * rotation(1, 5.0) @ rotation(2, 4.0)
    # Leaves on both sides, along the second axis. They hang a little, and are thinner than the frond.
    right = rotation(1, 20.0) @ rotation(0, -55.0) @ torch.diag(torch.tensor([0.30, 0.34, 0.30]))
    left = rotation(1, 20.0) @ rotation(0, 55.0) @ torch.diag(torch.tensor([0.30, -0.34, 0.30]))
    matrix = torch.stack((stem, frond, right, left))  # (N, 3, 3)
    offset = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 1.6], [0.0, 0.0, 1.6], [0.0, 0.0, 0.9]])  # (N, 3)
    generator = torch.Generator().manual_seed(seed)
    share = torch.tensor([0.02, 0.78, 0.10, 0.10])
    drawn = sample_attractor(matrix[None], offset[None], share[None], points, burn_in=50, generator=generator).points
    return drawn.flatten(0, 2)[:points]  # (P, 3)


def tree(points: int = POINTS, seed: int = 0) -> Tensor:
    """Return points (P, 3) of a tree. The trunk divides into three branches, five times, with leaves around the tips.

    All branches have different angles and lengths, so the tree is not the attractor of a system of few maps.
    """
    generator = torch.Generator().manual_seed(seed)

    def vary(middle: float, spread: float) -> float:
        return middle + spread * (2 * float(torch.rand((), generator=generator)) - 1)

    feet, sticks, widths, tips = [], [], [], []

    def branch(foot: Tensor, frame: Tensor, length: float, depth: int) -> None:
        """Add a branch along the third column of `frame` (3, 3), and the branches that grow from its end."""
        stick = length * frame[:, 2]
        feet.append(foot)
        sticks.append(stick)
        widths.append(0.06 * length)
        if depth == 0:
            tips.append(foot + stick)
            return
        turn = vary(0, 60)
        for _ in range(3):
            turn += vary(120, 15)
            tilted = frame @ rotation(2, turn) @ rotation(1, vary(38, 8))
            branch(foot + stick, tilted, length * vary(0.70, 0.08), depth - 1)

    branch(torch.zeros(3), torch.eye(3), 1.0, 5)
    leaves = points // 3
    size = torch.stack(sticks).norm(dim=1) * torch.tensor(widths).sqrt()  # (branches,)
    chosen = torch.multinomial(size, points - leaves, replacement=True, generator=generator)
    along = torch.rand(points - leaves, 1, generator=generator)
    wood = torch.stack(feet)[chosen] + along * torch.stack(sticks)[chosen]
    wood += torch.tensor(widths)[chosen, None] * (1 - along / 2) * _on_sphere(points - leaves, generator)
    near = torch.randint(len(tips), (leaves,), generator=generator)
    return torch.cat((wood, torch.stack(tips)[near] + 0.08 * torch.randn(leaves, 3, generator=generator)))


def _on_sphere(count: int, generator: torch.Generator) -> Tensor:
    """Return uniformly distributed unit vectors (count, 3)."""
    return torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)


CLOUDS: dict[str, Callable[[], Tensor]] = {"fern": fern, "tree": tree}


def main(folder: Path) -> None:
    """Write all point clouds to `folder`."""
    for name, draw in CLOUDS.items():
        save_point_cloud(draw(), folder / f"{name}.npy")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path.cwd())
