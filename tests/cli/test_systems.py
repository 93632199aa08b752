"""Tests of `fractalops systems` and `fractalops render --stats`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from fractalops.fitting import FitConfig, fit
from fractalops.systems import CLASSICS
from tests.support.command_line import refusal, run


def test_the_list_has_every_classic(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("systems") == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "maps", "space", "dimension", "source"]
    assert [row.split()[0] for row in rows] == list(CLASSICS)
    (carpet,) = [row for row in rows if row.startswith("carpet")]
    assert carpet.split()[1:4] == ["8", "2-D", "1.8928"]
    assert run("systems", "fern") == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_sheet_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("systems", "-o", tmp_path / "sheet.png", "--size", 40) == 0
    assert run("systems", "menger", "-o", tmp_path / "menger.png", "--size", 50) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"15 classic systems: {tmp_path / 'sheet.png'}",
        f"1 classic system: {tmp_path / 'menger.png'}",
    ]
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (4 * 44 + 4, 4 * 64 + 4)
    with Image.open(tmp_path / "menger.png") as picture:
        assert picture.size == (50, 50)
        assert picture.getpixel((25, 25)) > 0
        assert picture.getpixel((0, 0)) == 0


def test_the_fern_stands_upright(tmp_path: Path) -> None:
    assert run("systems", "fern", "-o", tmp_path / "fern.png", "--size", 64) == 0
    with Image.open(tmp_path / "fern.png") as picture:
        rows = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(64, 64).gt(20).sum(1)
    lit = rows.nonzero()[:, 0]
    assert int(lit.min()) < 6
    assert int(lit.max()) > 56
    assert int(rows[lit.max() - 1]) <= 5  # the stem
    assert int(rows.argmax()) > 30  # the largest leaves are in the lower half


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys, "systems", "ferns").startswith("argument NAME: must be one of fern, triangle,")
    (tmp_path / "a.png").touch()
    assert "it already exists" in refusal(capsys, "systems", "-o", tmp_path / "a.png")
    assert "a.xyz" in refusal(capsys, "systems", "-o", tmp_path / "a.xyz")


def test_statistics_of_a_learned_system(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = FitConfig(maps=3, points=20, sequences=2, steps=1)
    fit(torch.eye(8).expand(2, 8, 8), config).save(tmp_path / "two.safetensors")
    arguments = ["render", tmp_path / "two.safetensors", "--size", 8, "--points", 100, "--stats"]
    assert run(*arguments, "-o", tmp_path / "a.png") == 0
    out = capsys.readouterr().out
    assert out.count("bounding box:") == out.count("box dimension:") == 2
    assert (tmp_path / "a.png").exists()
    message = refusal(capsys, *arguments, "--animate", "orbit", "-o", tmp_path / "a.gif")
    assert message == "--stats can't be used with --animate; leave out one of them"
