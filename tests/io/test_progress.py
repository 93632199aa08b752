"""Tests of progress bars, and of the lines that replace them in a log."""

from __future__ import annotations

import io
import sys
import time

import pytest
from tqdm import tqdm

from fractalops.io.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_hidden_bar_says_nothing_and_starts_no_thread(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tqdm, "monitor", None)
    with progress_bar(2, "step", "fit", shown=False) as bar:
        bar.set_postfix(loss="0.1")
        bar.update()
        assert bar.disable
        assert type(bar).monitor is None
    assert list(progress_bar(2, "step", "fit", shown=False, iterable="ab")) == ["a", "b"]
    assert capsys.readouterr().err == ""


def test_a_terminal_and_a_notebook_have_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (Terminal(), io.StringIO()):
        with progress_bar(2, "step", "fit", shown=True, file=terminal) as bar:
            bar.update(2)
        assert ("\r" in terminal.getvalue()) == isinstance(terminal, Terminal)
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    with progress_bar(2, "step", "fit", shown=True, file=(notebook := io.StringIO())):
        pass
    assert "\rfit: " in notebook.getvalue()


def test_a_log_has_a_line_every_30_seconds_and_a_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    log = io.StringIO()
    with progress_bar(100, "step", "fit", shown=True, file=log, mininterval=0) as bar:
        for step in range(100):
            now = step + 1.0
            bar.update()
            bar.set_postfix(loss=f"{step}")
    lines = log.getvalue().splitlines(keepends=True)
    assert [line.partition(" [")[0] for line in lines] == [f"fit: {n}% {n}/100" for n in (30, 60, 90, 100)]
    assert all(line.endswith("]\n") for line in lines)
    assert "loss=99" in lines[-1]


@pytest.mark.parametrize("options", [{"delay": 2}, {"leave": False}], ids=str)
def test_a_short_bar_leaves_no_line(options: dict[str, object]) -> None:
    log = io.StringIO()
    assert list(progress_bar(2, "step", "fit", shown=True, file=log, iterable="ab", **options)) == ["a", "b"]
    assert log.getvalue() == ""


def test_a_log_that_can_not_be_written_ends_no_run() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    with progress_bar(2, "step", "fit", shown=True, file=Full()) as bar:
        bar.update(2)
    assert bar.n == 2


def test_a_log_need_not_have_more_than_write() -> None:
    class Log:
        text = ""

        def write(self, text: str) -> None:
            self.text += text

    log = Log()
    assert list(progress_bar(2, "step", "fit", shown=True, file=log, iterable="ab")) == ["a", "b"]
    assert log.text.startswith("fit: 100% 2/2")


def test_without_standard_error_there_is_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell's `2>&-` closes standard error. `sys.stderr` is then None."""
    monkeypatch.setattr(sys, "stderr", None)
    assert list(progress_bar(2, "step", "fit", shown=True, iterable="ab")) == ["a", "b"]
