"""All Python blocks of README.md and docs/*.md run, and do what is said beside them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import max_pool2d

from tests.support.experiment_data import write_mnist
from tests.support.requirements import ROOT

_NOT_RUN = re.compile(r"<!-- not run: .+ -->")


def run(path: Path) -> list[dict[str, Any]]:
    """Run a page's Python blocks in order, which share their names; return these after each block.

    Those marked as not run are left out.
    """
    text = path.read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    after = []
    for match in re.finditer(r"(?P<before>[^\n]*)\n```python\n(?P<code>.*?)\n```", "\n" + text, re.DOTALL):
        if not _NOT_RUN.fullmatch(match["before"]):
            above = text.count("\n", 0, match.start("code"))  # empty lines, for the line numbers of a traceback
            exec(compile("\n" * above + match["code"], str(path), "exec"), names)
            after.append(dict(names))
    return after


@pytest.fixture(autouse=True)
def _workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with the files that the blocks read."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    write_mnist(tmp_path / "MNIST" / "raw", 20)
    monkeypatch.chdir(tmp_path)


def test_the_blocks_of_the_readme_run() -> None:
    first, *others = run(ROOT / "README.md")
    # The first program draws its target, in the viewport in which it was learned: at half the size the error is ten
    # times as large.
    target, images, picture = first["target"], first["images"].detach(), first["picture"]
    assert (images - target).square().mean() < 0.03
    lit = max_pool2d(picture, 16)[0] > 0.1  # (64, 64), where the picture has any point
    assert (lit == (target > 0.1)).float().mean() > 0.9
    # The loop over points and the one call for a whole batch draw the same.
    assert len(others) == 6
    torch.testing.assert_close(others[-1]["images"][0], others[-1]["image"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_the_blocks_of_the_documentation_run(page: Path) -> None:
    run(page)
