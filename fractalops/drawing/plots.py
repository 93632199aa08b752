"""The loss of a fit as a table and as a curve."""

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
    """Write losses (P,), one a step, as a CSV file with the columns step and loss."""
    _check(losses, "loss_table")
    write_table(path, ("step", "loss"), ((step, repr(loss)) for step, loss in enumerate(losses.tolist(), start=1)))


@dataclass(frozen=True)
class Line:
    """A curve of a plot: y against x, of equal length."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    color: str | None = None  # None: the next of matplotlib's
    width: float = 1.8
    style: str = "-"


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
    """Draw lines on one plot, against a logarithmic scale with `log`.

    The suffix of `path` names the format. Raises `MissingExtra`, in the name of `function`, without matplotlib.
    """
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)  # without a home it warns of where it keeps its fonts
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra(function, "matplotlib", "plot") from error
    finally:
        logger.setLevel(level)

    # A Figure of its own, not pyplot's: no window system is touched, nothing is left behind in global state.
    figure = Figure(figsize=(6.4, 4.0), dpi=120, layout="constrained")
    axes = figure.subplots()
    for line in lines:
        axes.plot(line.x, line.y, color=line.color, linewidth=line.width, linestyle=line.style, label=line.label)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_title(as_text(title), parse_math=False)  # it may be the name of a file, with dollar signs
    axes.grid(alpha=0.3)
    axes.legend()
    if log:
        axes.set_yscale("log")
    with atomic_path(path) as temporary:
        figure.savefig(temporary)


def loss_curve(losses: Tensor, path: str | Path, *, title: str = "") -> None:
    """Draw losses (P,), one a step, and their running mean; the suffix of `path` names the format.

    Raises `MissingExtra` when matplotlib is not installed.
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
    """Return the mean of the last losses, over 2 % of the steps: (P,) to (P,)."""
    window = max(1, len(losses) // 50)
    total = torch.cat((losses.new_zeros(1), losses.cumsum(0)))  # (P + 1,)
    end = torch.arange(1, len(losses) + 1, device=losses.device)
    begin = (end - window).clamp(min=0)
    return (total[end] - total[begin]) / (end - begin)


def _check(losses: Tensor, function: str) -> None:
    if losses.ndim != 1:
        raise ValueError(f"{function}: losses must have shape (P,), got {tuple(losses.shape)}")
