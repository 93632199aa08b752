"""All Python blocks of README.md and docs/*.md run, and do what is said beside them."""

from __future__ import annotations

import gzip
import re
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import max_pool2d

ROOT = Path(__file__).parents[1]
_NOT_RUN = re.compile(r"<!-- not run: .+ -->")


def blocks(path: Path) -> list[tuple[int, str]]:
    """The first line and the code of each Python block of a page but those marked as not run."""
    text = path.read_text(encoding="utf-8")
    found = re.finditer(r"(?P<before>[^\n]*)\n```python\n(?P<code>.*?)\n```", "\n" + text, re.DOTALL)
    return [
        (text.count("\n", 0, match.start("code")) + 1, match["code"])
        for match in found
        if not _NOT_RUN.fullmatch(match["before"])
    ]


def run(path: Path) -> list[dict[str, Any]]:
    """Run a page's blocks in order, which share their names; return these after each block."""
    names: dict[str, Any] = {}
    after = []
    for line, code in blocks(path):
        # Empty lines before the code, so that a traceback tells the line of the page.
        exec(compile("\n" * (line - 1) + code, str(path), "exec"), names)
        after.append(dict(names))
    return after


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with the files that the blocks read."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images = torch.randint(256, (20, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    for name, shape, values in (
        ("t10k-images-idx3-ubyte.gz", images.shape, images),
        ("t10k-labels-idx1-ubyte.gz", (20,), torch.arange(20, dtype=torch.uint8) % 10),
    ):
        header = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
        (raw / name).write_bytes(gzip.compress(header + values.numpy().tobytes()))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("workplace")
def test_the_blocks_of_the_readme_run() -> None:
    first, *others = run(ROOT / "README.md")
    # The first program draws its target, in the viewport in which it was learned: at half the size the error is ten
    # times as large.
    target, images, picture = first["target"], first["images"].detach(), first["picture"]
    assert (images - target).square().mean() < 0.03
    lit = max_pool2d(picture, 32)[0] > 0.1  # (32, 32), where the picture has any point
    assert (lit == (target > 0.1)).float().mean() > 0.85
    # The loop over points and the one call for a whole batch draw the same.
    assert len(others) == 5
    torch.testing.assert_close(others[-1]["images"][0], others[-1]["image"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
@pytest.mark.usefixtures("workplace")
def test_the_blocks_of_the_documentation_run(page: Path) -> None:
    run(page)
