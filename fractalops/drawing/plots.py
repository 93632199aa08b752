"""Write the loss of a fit as a table and as a curve, and draw other curves."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fractalops.errors import MissingExtra
from fractalops.io.files import as_text, atomic_path, write_table


def loss_table(losses: Tensor, path: str | Path) -> None:
    """Write the losses (P,) of P steps to a CSV file with the columns "step" and "loss". Steps count from 1."""
    _check(losses, "loss_table")
    write_table(path, ("step", "loss"), ((step, repr(loss)) for step, loss in enumerate(losses.tolist(), start=1)))


@dataclass(frozen=True)
class Line:
    """A curve of a plot."""

    label: str
    """The name in the legend."""
    x: Sequence[float]
    y: Sequence[float]
    """As many values as `x`."""
    color: str | None = None
    """A color of Matplotlib; None means the next color of its cycle."""
    width: float = 1.8
    """The width of the line in points (1/72 inch)."""
    style: str = "-"
    """The line style of Matplotlib."""


def plot(
    function: str,
    path: str | Path,
    lines: Sequence[Line],
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    log: bool = False,
) -> None:
    """Draw lines in one plot and write it to a file, in the format of the suffix of `path`.

    With `log` the y axis is logarithmic. Raises `MissingExtra`, with the name of `function`, if Matplotlib is not
    installed.
    """
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)  # if the home folder is missing, Matplotlib warns about its font cache
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra(function, "matplotlib", "plot") from error
    finally:
        logger.setLevel(level)

    # Not pyplot, which would use a window system and change global state.
    figure = Figure(figsize=(6.4, 4.0), dpi=120, layout="constrained")
    axes = figure.subplots()
    for line in lines:
        axes.plot(line.x, line.y, color=line.color, linewidth=line.width, linestyle=line.style, label=line.label)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_title(as_text(title), parse_math=False)  # the title may be a file name with dollar signs
    axes.grid(alpha=0.3)
    axes.legend()
    if log:
        axes.set_yscale("log")
    with atomic_path(path) as temporary:
        figure.savefig(temporary)


def loss_curve(losses: Tensor, path: str | Path, *, title: str = "") -> None:
    """Draw the losses (P,) of P steps and their running mean to a file, in the format of the suffix of `path`.

    The y axis is logarithmic if all losses are positive. Raises `MissingExtra` if Matplotlib is not installed.
    """
    _check(losses, "loss_curve")
    losses = losses.detach().cpu().to(torch.float64)  # (P,)
    steps = range(1, len(losses) + 1)
    lines = [
        Line("each step", steps, losses.tolist(), "0.75", 0.8),
        Line("running mean", steps, running_mean(losses).tolist(), "tab:blue"),
    ]
    positive = len(losses) > 0 and bool((losses > 0.0).all())
    plot("loss_curve", path, lines, xlabel="step", ylabel="loss", title=title, log=positive)


def running_mean(losses: Tensor) -> Tensor:
    """Return, for each step, the mean of the latest losses: (P,) to (P,). The window is 2 % of the steps."""
    window = max(1, len(losses) // 50)
    total = torch.cat((losses.new_zeros(1), losses.cumsum(0)))  # (P + 1,)
    end = torch.arange(1, len(losses) + 1, device=losses.device)
    begin = (end - window).clamp(min=0)
    return (total[end] - total[begin]) / (end - begin)


def _check(losses: Tensor, function: str) -> None:
    if losses.ndim != 1:
        raise ValueError(f"{function}: losses must have shape (P,), got {tuple(losses.shape)}")
