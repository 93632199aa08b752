"""Which settings of `fit` learn well: a table of variants on MNIST and Fashion-MNIST, and a picture of what they draw.

    python studies/recipe.py MNIST.gz FASHION.png --images 40

MNIST.gz is the file of the test images (IDX); FASHION.png a sheet of 30 x 30 cells. Images are scaled to 32 x 32 and
binarized at 0.2, as in the published code. Settings are chosen on MNIST 0 to 199 and on the sheet's even rows;
`--verify` takes the others, for a last look. Writes recipe.md, recipe.csv and recipe.png to docs/, with `--verify`
recipe-verified.md and so on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from fractalops import FitConfig, FitResult, fit
from fractalops.data.targets import open_targets
from fractalops.experiments.outcome import Outcome, Row
from fractalops.io.files import write_table
from fractalops.io import PictureOptions
from fractalops.io.images import contact_sheet, enlarge, read_image, save_image

VARIANTS = {
    "paper": FitConfig.paper(batch_size=100),
    "paper, viewport 2.5": FitConfig.paper(batch_size=100, viewport=(-2.5, -2.5, 2.5, 2.5)),
    "random start": FitConfig(batch_size=100, initialization="random"),
    "probabilities by determinant": FitConfig(batch_size=100, probabilities="determinant"),
    "independent sequences": FitConfig(batch_size=100, sampling="independent"),
    "independent, the paper's work": FitConfig(batch_size=100, sampling="independent", steps=10_000),
    "paper, balanced sequences": FitConfig.paper(batch_size=100, sampling="balanced"),
    "schedule by halving": FitConfig(batch_size=100, schedule="halving"),
    "with noise": FitConfig(batch_size=100, noise=0.1),
    "half the steps": FitConfig(batch_size=100, steps=1000),
    "the paper's work": FitConfig(batch_size=100, steps=10_000),
    "20 maps": FitConfig(batch_size=100, maps=20),
    "20 maps, the paper's work": FitConfig(batch_size=100, maps=20, steps=10_000),
    "default": FitConfig(batch_size=100),
}
VERIFIED = ("paper", "20 maps, the paper's work", "default")
SHOWN = 10  # images of the picture
SEQUENCES = 10  # drawn at a time


def binarized(images: Tensor) -> Tensor:
    """Targets (S, 32, 32) of images (S, 28, 28) in [0, 1]."""
    scaled = interpolate(images[:, None], size=(32, 32), mode="bilinear", antialias=True, align_corners=False)[:, 0]
    return (scaled > 0.2).float()


def read_mnist(path: Path, count: int, verify: bool) -> Tensor:
    """The first `count` of the images 0 to 199, or of those from 200 on: (S, 32, 32)."""
    source = open_targets(path)
    first = 200 if verify else 0
    return binarized(torch.stack([source[number] for number in range(first, first + count)]))


def read_fashion(path: Path, count: int, verify: bool) -> Tensor:
    """`count` cells, evenly spread over the sheet's even rows, or over the odd ones: (S, 32, 32)."""
    sheet = read_image(path, PictureOptions(size=30 * 28))  # (840, 840)
    cells = sheet.view(30, 28, 30, 28).transpose(1, 2)  # (30, 30, 28, 28)
    half = cells[1 if verify else 0 :: 2].reshape(-1, 28, 28)  # (450, 28, 28)
    return binarized(half[torch.linspace(0, len(half) - 1, count, dtype=torch.float64).round().long()])


@torch.no_grad()
def minimum_of_independent_sequences(result: FitResult, targets: Tensor) -> Tensor:
    """The minimum MSE (S,) over sequences drawn as in the paper, however the system was learned."""
    system, config = result.system, result.config
    system.sampling = "independent"
    generator = torch.Generator().manual_seed(config.seed)
    errors = []
    for _ in range(config.evaluation_sequences // SEQUENCES):
        images = system(  # (S, K, H, W)
            (32, 32), sequences=SEQUENCES, points=config.points, generator=generator, viewport=config.viewport
        )
        errors.append((images - targets[:, None]).square().mean((2, 3)))  # (S, K)
    return torch.cat(errors, 1).amin(1)


def describe(name: str, data: str, result: FitResult, targets: Tensor) -> Row:
    """A row of the table."""
    error, config = result.minimum_mse, result.config
    independent = minimum_of_independent_sequences(result, targets)
    return {
        "data": data,
        "settings": name,
        "images": str(len(error)),
        "sequences": str(config.steps * config.sequences),
        "mean": f"{error.mean():.4f}",
        "median": f"{error.median():.4f}",
        "worst": f"{error.max():.4f}",
        "mean over sequences": f"{result.mean_mse.mean():.4f}",
        "mean, independent sequences": f"{independent.mean():.4f}",
        "seconds an image": f"{result.seconds / len(error):.2f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mnist", type=Path)
    parser.add_argument("fashion", type=Path)
    parser.add_argument("--images", type=int, default=40, help="of each data set (default: %(default)s)")
    parser.add_argument("--verify", action="store_true", help="on the images that no setting was chosen by")
    parser.add_argument("--settings", nargs="+", choices=VARIANTS, help="of the table, the first to compare with")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent.parent / "docs")
    arguments = parser.parse_args()
    count, verify = arguments.images, arguments.verify
    data = {
        "MNIST": read_mnist(arguments.mnist, count, verify),
        "Fashion-MNIST": read_fashion(arguments.fashion, count, verify),
    }
    names = arguments.settings or (VERIFIED if verify else VARIANTS)
    rows, strips = [], []
    for source, targets in data.items():
        drawn = [targets[:SHOWN]]
        baseline = 0.0
        for name in names:
            result = fit(targets, VARIANTS[name])
            row = describe(name, source, result, targets)
            baseline = baseline or float(result.minimum_mse.mean())
            row["to paper"] = f"{float(result.minimum_mse.mean()) / baseline:.2f}"
            rows.append(row)
            print(row, flush=True)
            if name in VERIFIED:
                drawn.append(result.best_image[:SHOWN])
        strips += drawn
    write(rows, strips, arguments.output / ("recipe-verified" if verify else "recipe"))


def write(rows: list[Row], strips: list[Tensor], stem: Path) -> None:
    """The table in two forms, and the picture: strips of images (SHOWN, H, W) below each other."""
    write_table(stem.with_suffix(".csv"), list(rows[0]), [list(row.values()) for row in rows])
    note = (
        "The mean, median and worst of the images' minimum MSE over 100 fresh sequences, drawn as the settings say "
        "(evenly, but for those called otherwise); beside them the mean of that minimum over 100 independent sequences "
        "of the same systems. `sequences` is the work an image: steps x sequences a step. The seconds "
        "are of all images packed in one call, on a machine that did other work beside it."
    )
    shown = f"From above, for each data set: targets; {'; '.join(VERIFIED)}."
    picture = f"![{shown}]({stem.name}.png)\n\n*{shown}*"
    text = f"# Settings of `fit`, compared\n\n{note}\n\n{Outcome(rows).table()}\n\n{picture}\n"
    stem.with_suffix(".md").write_text(text)
    save_image(contact_sheet(enlarge(torch.cat(strips), 2), columns=len(strips[0])), stem.with_suffix(".png"))


if __name__ == "__main__":
    main()
