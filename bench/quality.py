"""Tables of the quality of `fit`, from the files that `fractalops experiment` wrote to docs/."""

from __future__ import annotations

import csv
from pathlib import Path

from fractalops.io.files import open_table

from .table import markdown

DOCS = Path(__file__).parent.parent / "docs"
_CHOSEN_BY = (
    ("paper", "published settings"),
    ("default", "**defaults, with 300 points**"),
    ("independent sequences", "defaults, independent sequences"),
    ("20 maps", "defaults, 20 maps"),
    ("20 maps, the paper's work", "20 maps, as many sequences as published"),
)
_HELD_OUT = (
    ("paper", "published settings"),
    ("points by what is shown", "**defaults**"),
    ("20 maps, the paper's work", "20 maps, as many sequences as published"),
)


def _rows(name: str) -> list[dict[str, str]]:
    with open_table(DOCS / name, "r") as file:
        return list(csv.DictReader(file))


def _means(name: str, shown: tuple[tuple[str, str], ...]) -> str:
    found = {(row["data"], row["settings"]): row for row in _rows(name)}
    lines = []
    for settings, label in shown:
        of = [found[data, settings] for data in ("MNIST", "Fashion-MNIST")]
        sequences = " to ".join(f"{number:,}" for number in sorted({int(row["sequences"]) for row in of}))
        lines.append([label, sequences, *(row["mean"] for row in of)])
    head = ["mean of the minimum MSE, 50 images each", "sequences an image", "MNIST", "Fashion-MNIST"]
    return markdown(head, lines)


def small_images() -> str:
    """Return the tables of the images by which settings were chosen and of other images."""
    chosen, held_out = _means("recipe.csv", _CHOSEN_BY), _means("recipe-verified.csv", _HELD_OUT)
    return f"{chosen}\n\nOn images by which no setting was chosen:\n\n{held_out}"


def small_images_in_short() -> str:
    """Return the table of the images by which no setting was chosen."""
    return _means("recipe-verified.csv", _HELD_OUT)


def pictures() -> str:
    """Return the table of pictures at their own size, learned with the default settings."""
    lines = [
        [
            row["target"],
            row["pixels"],
            row["maps"],
            f"{float(row['PSNR']):.1f} dB",
            f"{float(row['SSIM']):.3f}",
            f"{float(row['CPU seconds']):.0f} s",
        ]
        for row in _rows("pictures.csv")
        if row["learned as"] == "fractal, mean"
    ]
    return markdown(["picture", "pixels", "maps", "PSNR", "SSIM", "CPU time"], lines)
