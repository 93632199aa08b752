"""Progress bars."""

from __future__ import annotations

import pytest
from tqdm import tqdm

from fractalops.io.progress import progress_bar


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
    with progress_bar(2, "step", "fit", shown=True):
        pass
    assert "fit: " in capsys.readouterr().err
