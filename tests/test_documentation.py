"""Tests that all Python blocks and commands of README.md and docs/ run, and that the site is built."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch.nn.functional import max_pool2d

from fractalops.cli import main
from tests.support.experiment_data import write_mnist
from tests.support.requirements import ROOT

PAGES = sorted((ROOT / "docs").rglob("*.md"))
_LONG = ("photograph.md", "picture.md", "point-cloud.md", "quick-start.md")  # they draw large pictures and animations
_BLOCK = re.compile(r"\n```(?P<language>python|sh)\n(?P<code>.*?)\n```", re.DOTALL)


def run(path: Path) -> list[dict[str, Any]]:
    """Run a page's Python blocks and its commands in order; return the names that the blocks share after each block."""
    text = path.read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    after = []
    for match in _BLOCK.finditer("\n" + text):
        if match["language"] == "sh":
            for line in match["code"].replace("\\\n", "").splitlines():
                program, *arguments = shlex.split(line, comments=True)
                assert program == "fractalops"
                assert main([*arguments, *["--quiet"] * (arguments[0] in ("fit", "fit-points"))]) == 0, line
        else:
            above = text.count("\n", 0, match.start("code"))  # empty lines keep the line numbers of tracebacks
            exec(compile("\n" * above + match["code"], str(path), "exec"), names)
            after.append(dict(names))
    return after


@pytest.fixture(autouse=True)
def _workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Enter a folder with the files that the blocks read."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    write_mnist(tmp_path / "MNIST" / "raw", 20)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # pages extend it


def test_the_program_of_the_readme_runs() -> None:
    (names,) = run(ROOT / "README.md")
    # It draws its target in the viewport in which it was learned. At half the size, the error is ten times as large.
    target, images, picture = names["target"], names["images"].detach(), names["picture"]
    assert (images - target).square().mean() < 0.03
    lit = max_pool2d(picture, 8)[0] > 0.1  # (128, 128): blocks of the picture with points
    assert (lit == (target > 0.1)).float().mean() > 0.9


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=str(page.relative_to(ROOT / "docs")), marks=[pytest.mark.slow] * (page.name in _LONG))
        for page in PAGES
        if _BLOCK.search("\n" + page.read_text(encoding="utf-8"))
    ],
)
def test_the_blocks_of_the_documentation_run(page: Path) -> None:
    run(page)


@pytest.mark.slow
def test_the_site_is_built_without_warnings(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (built.returncode, built.stdout, built.stderr) == (0, "", "")
    shown = (tmp_path / "site" / "command-line.html").read_text(encoding="utf-8")
    assert shown.count("usage: fractalops") == 12
    assert "fractalops.fit" in (tmp_path / "site" / "api" / "learning.html").read_text(encoding="utf-8")
