"""Shared parts of the tests of the command line."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import Mock

import pytest
from PIL import Image, ImageDraw

from fractalops.cli import main
from tests.support.requirements import ROOT

# Settings with which `fractalops fit` takes almost no time.
QUICK = ["--size", "8", "--steps", "3", "--points", "20", "--sequences", "2", "--maps", "3"]

# Environment in which `python -m fractalops` finds this package from any folder.
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def draw(path: Path, size: tuple[int, int] = (8, 8)) -> Path:
    picture = Image.new("L", size, 0)
    ImageDraw.Draw(picture).ellipse((1, 1, size[0] // 2, size[1] // 2), fill=255)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    return path


def run(*argv: object) -> int:
    """Run `main` and return its exit code, also if argparse raises `SystemExit`."""
    try:
        return main([str(argument) for argument in argv])
    except SystemExit as leaving:
        return int(leaving.code or 0)


def refusal(capsys: pytest.CaptureFixture[str], *argv: object, code: int = 2) -> str:
    """Run a command that must print one error line and nothing else. Return the line without the command's name."""
    capsys.readouterr()
    assert run(*argv) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    name, _, message = line.partition(": ")
    assert name in (f"fractalops {argv[0]}", "fractalops")
    return message


def forbid_learning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the test fail if the learning of pictures or of a cloud starts."""
    refuse = Mock(side_effect=AssertionError("learning began although something was wrong with the input"))
    monkeypatch.setattr("fractalops.cli.fit_pictures.fit_images", refuse)
    monkeypatch.setattr("fractalops.cli.fit_points.fit_points", refuse)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
