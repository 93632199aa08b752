"""Tests of the loss as a table and as a curve."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from fractalops.drawing.plots import loss_curve, loss_table
from fractalops.errors import MissingExtra
from tests.support.requirements import need_matplotlib


def test_the_table_holds_every_step_exactly(tmp_path: Path) -> None:
    losses = torch.tensor([0.1, 0.2, float("nan")])
    loss_table(losses, tmp_path / "loss.csv")
    with (tmp_path / "loss.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    assert torch.equal(torch.tensor([float(row["loss"]) for row in rows[:2]]), losses[:2])
    assert rows[2]["loss"] == "nan"


@pytest.mark.parametrize(
    "losses",
    [
        torch.rand(200, generator=torch.Generator().manual_seed(0)),
        torch.zeros(3),
        torch.tensor([0.5]),
        torch.tensor([]),
        torch.tensor([0.5, float("nan"), 0.1]),
    ],
)
def test_the_curve_is_drawn(tmp_path: Path, losses: torch.Tensor) -> None:
    need_matplotlib()
    loss_curve(losses.requires_grad_(), tmp_path / "loss.png", title="leaf_$1.png")
    with Image.open(tmp_path / "loss.png") as picture:
        assert picture.size == (768, 480)


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"loss_curve: needs matplotlib.*fractalops\[plot\]"):
        loss_curve(torch.ones(3), tmp_path / "loss.png")
    assert list(tmp_path.iterdir()) == []


def test_losses_of_several_systems_are_refused(tmp_path: Path) -> None:
    for function in (loss_table, loss_curve):
        with pytest.raises(ValueError, match=rf"{function.__name__}: losses must have shape \(P,\), got \(3, 2\)"):
            function(torch.ones(3, 2), tmp_path / "loss.png")
