"""Learn fractals in space for the point clouds of draw_point_clouds.py, a fern and a tree.

    python examples/point_cloud.py [FOLDER]

Prints the Chamfer distance between each cloud and the learned points. For each cloud it writes to FOLDER (default:
point-clouds): a picture of the cloud above the learned points, from three sides; an animation that rotates both; and
the learned system.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from draw_point_clouds import CLOUDS

import fractalops
from fractalops.drawing.point_clouds import draw_point_clouds, turntable
from fractalops.io.animations import save_animation
from fractalops.io.images import save_image

MAPS = {"fern": 32, "tree": 48}


def main(folder: Path, steps: int = 600, side: int = 256, frames: int = 36) -> None:
    """Learn both clouds, and write pictures and systems to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in CLOUDS.items():
        target = draw()  # (P, 3)
        result = fractalops.fit_points(target, fractalops.PointConfig(maps=MAPS[name], steps=steps))
        if result.interrupted:
            sys.exit("interrupted")
        print(
            f"{name}: {MAPS[name]} maps in {result.seconds:.1f} s, Chamfer distance {result.chamfer:.4f} diameters "
            f"(at the start {result.start_chamfer:.4f}, between two halves of the target {result.halves_chamfer:.4f})"
        )
        learned = result.sample(len(target), generator=torch.Generator().manual_seed(0))  # (P, 3)
        save_image(draw_point_clouds([target, learned], side=side), folder / f"{name}.png")
        save_animation(
            turntable([target, learned], frames=frames, side=side), folder / f"{name}.gif", last_milliseconds=120
        )
        result.save(folder / f"{name}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("point-clouds"))
