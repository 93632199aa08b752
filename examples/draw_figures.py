"""Draw the figures of the page "How it works" of the documentation.

    python examples/draw_figures.py [FOLDER]

Writes chain.png, bandwidth.png, sampling.png and zoom.png to FOLDER (default: docs/images).
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

import fractalops
from fractalops.drawing.high_resolution import draw_high_resolution
from fractalops.drawing.sheets import contact_sheet
from fractalops.io.images import save_image
from fractalops.systems import System, classic

SIDE = 192  # side of a tile, in pixels


def steps(system: System) -> Tensor:
    """Return images (5, SIDE, SIDE): the bounding box after 1, 2, 3 and 6 steps of all maps, and the attractor."""
    attractor = system.points(100_000)  # (P, 2)
    low, high = attractor.aminmax(dim=0)  # (2,), (2,)
    axis = torch.linspace(0, 1, 300, dtype=attractor.dtype)  # (300,)
    points = low + torch.cartesian_prod(axis, axis) * (high - low)  # (Q, 2), a filled rectangle
    generator = torch.Generator().manual_seed(0)
    shown = []
    for step in range(1, 7):
        points = (points @ system.matrix.mT + system.offset[:, None]).flatten(0, 1)  # (N * Q, 2)
        points = points[torch.randperm(len(points), generator=generator)[:300_000]]
        if step in (1, 2, 3, 6):
            shown.append(points)
    corners = torch.cat([low - 0.2 * (high - low), high + 0.2 * (high - low)])
    viewport = tuple(corners.tolist())
    images = [draw(each, viewport) for each in (*shown, attractor)]
    return torch.stack(images)


def draw(points: Tensor, viewport: tuple[float, ...], size: int = SIDE, bandwidth: float = 1.0) -> Tensor:
    """Draw points (P, 2) as an image (size, size)."""
    low, high = points.new_tensor(viewport[:2]), points.new_tensor(viewport[2:])  # (2,), (2,)
    pixels = ((points - low) / (high - low) * (size - 1)).float()  # (P, 2)
    return fractalops.rbf_rasterize(pixels[None], size, bandwidth=bandwidth)[0].clamp(0, 1)


def bandwidths(system: System) -> Tensor:
    """Return images (3, 192, 192) of 300 points with three bandwidths, in square pixels of an image of 48 x 48."""
    points = system.points(300, generator=torch.Generator().manual_seed(0))  # (300, 2)
    low, high = system.points(10_000).aminmax(dim=0)
    viewport = tuple(torch.cat([low - 0.1 * (high - low), high + 0.1 * (high - low)]).tolist())
    images = torch.stack([draw(points, viewport, SIDE // 4, bandwidth) for bandwidth in (0.3, 1.0, 4.0)])
    return images.repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)


def sampling() -> Tensor:
    """Return images (3, 192, 192) of a learned shape: 300 independent, 300 balanced and 100,000 independent points."""
    axis = torch.linspace(-1, 1, 32)  # (32,)
    target = ((axis[:, None] / 0.8).square() + (axis / 0.5).square() < 1).float()  # (32, 32), an ellipse
    result = fractalops.fit(target, fractalops.FitConfig(maps=10, points=300, steps=1000))
    images = []
    for kind, points in (("independent", 300), ("balanced", 300), ("independent", 100_000)):
        system = result.system
        system.sampling = kind
        image = system(32, sequences=1, points=points, generator=torch.Generator().manual_seed(1))[0, 0]
        images.append(image.detach().repeat_interleave(6, dim=0).repeat_interleave(6, dim=1))  # (192, 192)
    return torch.stack(images)


def zooms(system: System) -> Tensor:
    """Return images (3, 320, 320) of a system at zoom 1, 8 and 512."""
    module = fractalops.IFS.from_maps(system.matrix, system.offset, system.probabilities)
    views = (None, (0.5, 0.5, 8.0), (0.5, 0.5, 512.0))
    return torch.cat([draw_high_resolution(module, (320, 320), viewport="fit", zoom=zoom) for zoom in views])


def main(folder: Path) -> None:
    """Draw all figures to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    save_image(contact_sheet(steps(classic("maple-leaf")), columns=5), folder / "chain.png")
    save_image(contact_sheet(bandwidths(classic("fern")), columns=3), folder / "bandwidth.png")
    save_image(contact_sheet(sampling(), columns=3), folder / "sampling.png")
    save_image(contact_sheet(zooms(classic("levy")), columns=3), folder / "zoom.png")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"))
