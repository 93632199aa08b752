"""What the tests of the command line share."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

from fractalops.cli import main

# Settings of `fractalops fit` with which it takes next to no time.
QUICK = ["--size", "8", "--steps", "3", "--points", "20", "--sequences", "2", "--maps", "3"]


def draw(path: Path, size: tuple[int, int] = (8, 8)) -> Path:
    picture = Image.new("L", size, 0)
    ImageDraw.Draw(picture).ellipse((1, 1, size[0] // 2, size[1] // 2), fill=255)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    return path


def run(*argv: object) -> int:
    """`main`, with the `SystemExit` of argparse turned into its code."""
    try:
        return main([str(argument) for argument in argv])
    except SystemExit as leaving:
        return int(leaving.code or 0)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
