"""Tests that the figures in README.md and docs/ are those of bench/measured.json and docs/*.csv."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench import documents
from bench.promises import promises
from bench.rows import Figures

FIGURES = Figures.load(documents.MEASURED)


def test_the_pages_say_what_was_measured() -> None:
    assert documents.main(["--check"]) == 0, "python -m bench readme writes it anew"


def test_the_figures_keep_every_promise() -> None:
    judged = promises(FIGURES.rows)
    assert len(judged) > 10
    assert not [each for each in judged if each.state != "kept"]


def test_no_figure_is_of_a_gpu() -> None:
    assert not [row for row in FIGURES.rows if row.device != "cpu"]


def test_a_row_that_is_not_there_is_left_out() -> None:
    some = replace(FIGURES, rows=tuple(row for row in FIGURES.rows if row.op == "step"))
    text = documents.speed(some)
    assert "one optimization step" in text
    assert "`fit`" not in text


def test_only_what_is_between_the_marks_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "PARTS", {"a": lambda: "new", "b": lambda: "also new"})
    text = "before\n<!-- numbers: a -->\nold\n<!-- end -->\nbetween\n<!-- numbers: b -->\n<!-- end -->\nafter\n"
    after = (
        "before\n<!-- numbers: a -->\n\nnew\n\n<!-- end -->\nbetween\n"
        "<!-- numbers: b -->\n\nalso new\n\n<!-- end -->\nafter\n"
    )
    assert documents.with_numbers(text) == after
    assert documents.with_numbers(after) == after
    with pytest.raises(ValueError, match=r"^with_numbers: page must have parts of \['a', 'b'\], got 'c'"):
        documents.with_numbers("<!-- numbers: c -->\n<!-- end -->")
    (tmp_path / "docs" / "deep").mkdir(parents=True)
    (tmp_path / "README.md").write_text("nothing")
    (tmp_path / "docs" / "deep" / "page.md").write_text(text)
    monkeypatch.setattr(documents, "ROOT", tmp_path)
    assert documents.main(["--check"]) == 1
    assert documents.main([]) == 0
    assert documents.main(["--check"]) == 0
    assert (tmp_path / "docs" / "deep" / "page.md").read_text() == after


def test_every_part_is_on_a_page() -> None:
    pages = [documents.ROOT / "README.md", *(documents.ROOT / "docs").rglob("*.md")]
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    for name in documents.PARTS:
        assert f"<!-- numbers: {name} -->" in text
