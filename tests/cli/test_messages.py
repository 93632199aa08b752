"""Tests that hostile file names and contents print no control characters and no overlong lines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.command_line import QUICK, draw, run

pytestmark = [
    pytest.mark.usefixtures("small_pictures", "one_thread"),
    pytest.mark.skipif(os.name == "nt", reason="Windows has no such names"),
]

HOSTILE = "a\x1b[2J\r\u202e\n"  # clear the screen, carriage return, right-to-left override
SYSTEM = "{ .5 0 0 .5 0 0 .5  .5 0 0 .5 .5 0 .5 }"
LONG = 100_000 * "\x1b"


@pytest.fixture(autouse=True)
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write files with hostile names and with hostile contents."""
    monkeypatch.chdir(tmp_path)
    draw(Path(f"{HOSTILE}.png"))
    draw(Path("folder", f"{HOSTILE}.png"))
    Path("folder", f"{HOSTILE}2.png").write_text("no picture")
    Path(f"{HOSTILE}.xyz").write_text("".join(f"{i} {i * i} {i**3} 1\n" for i in range(9)))
    Path("a.ply").write_text(f"ply\nformat {LONG} 1.0\nend_header\n")
    Path("a.json").write_text(f'{{"name": "{LONG}"}}')
    name = "a\x1b[2J"
    Path("a.flame").write_text(f'<flame name="{LONG}"><xform/>')
    Path("a.ifs").write_text(f"{name} {SYSTEM}\n{name} {SYSTEM}\n")
    Path("a.csv").write_text(f"{LONG},1,2,3,4,5,6\n")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["fit", f"{HOSTILE}.png", "-o", HOSTILE, *QUICK], 0),
        (["fit", f"{HOSTILE}.png", "missing.png", *QUICK], 2),
        (["fit", "folder", "-o", "out", "--quiet", *QUICK], 2),
        (["fit", "folder", "-o", "out", "--skip-bad", *QUICK], 0),
        (["fit-points", f"{HOSTILE}.xyz", "-o", HOSTILE, "--steps", "1", "--points", "9", "--no-animation"], 0),
        (["fit-points", "a.ply"], 2),
        (["render", "a.json"], 2),
        (["render", "a.flame"], 2),
        (["render", "a.csv"], 2),
        (["render", "a.ifs", "--system", HOSTILE], 2),
        (["render", "a.ifs", "-o", f"{HOSTILE}2.png", "--size", "8", "--points", "9", "--stats"], 0),
        (["render", f"{HOSTILE}.ifs"], 2),
        (["convert", "a.ifs", f"{HOSTILE}.json"], 0),
        (["convert", "a.ifs", "b.json", HOSTILE], 2),
        ([HOSTILE], 2),
    ],
    ids=lambda value: "-".join(value[:3]).encode("unicode_escape").decode() if isinstance(value, list) else None,
)
def test_what_is_printed_is_printable(command: list[str], code: int, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(*command) == code
    captured = capfd.readouterr()
    error = captured.err.replace("\r", "\n") if code == 0 else captured.err  # progress bars use \r
    for line in f"{captured.out}{error}".split("\n"):
        assert line.isprintable()
        assert len(line) < 2000
    if code:
        assert len(captured.err.splitlines()) == 1
