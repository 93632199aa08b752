"""Tests of `fractalops view`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fractalops import FitConfig, fit
from tests.drawing.test_page import parameters_of
from tests.support.command_line import refusal, run


def save(path: Path, images: int) -> torch.Tensor:
    """Save the systems of some images; return their offsets (S, N, 2)."""
    config = FitConfig(maps=3, points=20, sequences=2, steps=1)
    result = fit(torch.eye(4, 8).expand(images, 4, 8), config)
    result.save(path)
    return result.system.offset.detach()


def offset(path: Path) -> torch.Tensor:
    return torch.tensor(parameters_of(path.read_text(encoding="utf-8"))["offset"])


def test_view_writes_a_page_of_a_saved_system(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    system = tmp_path / "leaf.safetensors"
    saved = save(system, 1)
    assert run("view", system) == 0
    assert capsys.readouterr().out == f"page: {tmp_path / 'leaf.html'}\n"
    assert torch.equal(offset(tmp_path / "leaf.html"), saved[0])
    assert run("view", system, "--number", 0, "-o", tmp_path / "other.htm") == 0

    before = (tmp_path / "leaf.html").read_bytes()
    assert "--overwrite replaces it" in refusal(capsys, "view", system)
    assert (tmp_path / "leaf.html").read_bytes() == before
    assert run("view", system, "--overwrite") == 0
    assert {path.name for path in tmp_path.iterdir()} == {"leaf.safetensors", "leaf.html", "other.htm"}


def test_view_takes_one_of_several_systems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    system = tmp_path / "three.safetensors"
    saved = save(system, 3)
    page = tmp_path / "three.html"
    line = refusal(capsys, "view", system)
    one = "a page needs exactly one system, got 3; select one with --system"
    assert line == f"cannot use {system}: {one}"
    line = refusal(capsys, "view", system, "--system", 3)
    assert line == f"cannot use {system}: the name of a system must be one of '0', '1', '2', got '3'"
    assert not page.exists()
    assert run("view", system, "--number", 2) == 0
    assert torch.equal(offset(page), saved[2])
