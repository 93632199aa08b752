"""The README's figures are those of bench/measured.json."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench import readme
from bench.promises import promises
from bench.rows import Figures

FIGURES = Figures.load(readme.MEASURED)


def test_the_readme_says_what_was_measured() -> None:
    assert readme.main(["--check"]) == 0, "python -m bench readme writes it anew"


def test_the_figures_keep_every_promise() -> None:
    judged = promises(FIGURES.rows)
    assert len(judged) > 10
    assert not [each for each in judged if each.state != "kept"]


def test_no_figure_is_of_a_gpu() -> None:
    assert not [row for row in FIGURES.rows if row.device != "cpu"]


def test_a_row_that_is_not_there_is_left_out() -> None:
    some = replace(FIGURES, rows=tuple(row for row in FIGURES.rows if row.op == "step"))
    text = readme.section(some)
    assert "one optimization step" in text
    assert "`fit`" not in text


def test_only_what_is_between_the_marks_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n"
    assert readme.replaced(text, "new") == f"before\n{readme.BEGIN}\n\nnew\n\n{readme.END}\nafter\n"
    with pytest.raises(ValueError, match=r"^replaced: readme must hold the lines "):
        readme.replaced("nothing", "new")
    (tmp_path / "README.md").write_text(text)
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    assert readme.main(["--check"]) == 1
    assert readme.main([]) == 0
    assert readme.main(["--check"]) == 0
