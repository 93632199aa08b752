"""Use `fractalops.render` in an existing training loop, instead of a Python loop and a dense renderer.

    python examples/training_loop.py [STEPS]

The loop learns the maps of a fractal for examples/leaf.png. It is run twice, from the same start and with the same
random numbers: with `render_by_hand`, as such loops are often written, and with `fractalops.render`. The losses are the
same except for rounding. The second loop is much faster.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import fractalops
from fractalops.io import PictureOptions
from fractalops.io.images import read_image

MAPS, SEQUENCES, POINTS, SIZE = 10, 4, 200, 32
Render = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def render_by_hand(matrix: Tensor, offset: Tensor, index: Tensor, start: Tensor) -> Tensor:
    """Draw with a Python loop over the points, and the distances of all points to all pixels. The version before."""
    pixel = torch.arange(SIZE, dtype=matrix.dtype)  # (H,)
    grid = torch.stack(torch.meshgrid(pixel, pixel, indexing="ij"), dim=-1)  # (H, W, 2)
    images = []
    for sequence in range(index.shape[0]):
        point, points = start[sequence], []
        for step in index[sequence].long():
            point = matrix[step] @ point + offset[step]  # (2,)
            points.append(point)
        pixels = (torch.stack(points) + 5.0) / 10.0 * (SIZE - 1)  # (T, 2)
        distance = ((pixels[:, None, None, :] - grid) ** 2).sum(-1)  # (T, H, W)
        images.append(torch.exp(-distance).sum(0).clamp(0.0, 1.0))  # (H, W)
    return torch.stack(images)  # (B, H, W)


def render_by_fractalops(matrix: Tensor, offset: Tensor, index: Tensor, start: Tensor) -> Tensor:
    """Draw all sequences in one call. The version after the change."""
    return fractalops.render(matrix, offset, index, SIZE, start=start)  # (B, H, W)


def train(render: Render, target: Tensor, steps: int) -> tuple[list[float], float]:
    """Run the training loop with a renderer. Return the losses, and the time in seconds."""
    generator = torch.Generator().manual_seed(0)
    matrix = (0.5 * torch.randn(MAPS, 2, 2, generator=generator)).requires_grad_()  # (N, 2, 2)
    offset = torch.randn(MAPS, 2, generator=generator).requires_grad_()  # (N, 2)
    start = torch.zeros(SEQUENCES, 2)  # (B, 2)
    optimizer = torch.optim.Adam([matrix, offset], lr=0.02)
    losses = []
    begin = time.perf_counter()
    for _ in range(steps):
        index = torch.randint(MAPS, (SEQUENCES, POINTS), generator=generator)  # (B, T)
        images = render(matrix, offset, index, start)  # (B, H, W), the only line that changes
        loss = ((images - target) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([matrix, offset], 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses, time.perf_counter() - begin


def main(steps: int) -> None:
    """Run both versions of the loop, and print a comparison."""
    target = read_image(Path(__file__).parent / "leaf.png", PictureOptions(size=SIZE))
    by_hand, slow = train(render_by_hand, target, steps)
    by_fractalops, fast = train(render_by_fractalops, target, steps)
    difference = max(abs(a - b) for a, b in zip(by_hand, by_fractalops, strict=True))
    print(f"by hand:           loss {by_hand[0]:.4f} -> {by_hand[-1]:.4f} in {slow:.2f} s")
    print(f"fractalops.render: loss {by_fractalops[0]:.4f} -> {by_fractalops[-1]:.4f} in {fast:.2f} s")
    print(f"largest difference of the losses: {difference:.1e}; speed-up: {slow / fast:.0f} x")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
