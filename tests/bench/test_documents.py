"""Tests that the figures in README.md and docs/ are those of bench/measured.json and docs/measured/."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bench import documents, quality
from bench.promises import promises
from bench.rows import Figures

FIGURES = Figures.load(documents.MEASURED)
RECORDS = sorted(quality.MEASURED.glob("*.json"))
PAGES = [documents.ROOT / "README.md", *(documents.ROOT / "docs").rglob("*.md")]
OTHERS = [documents.ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
ARITHMETIC = "gpu-arithmetic.md"  # computes lower bounds from data sheets
# Times, rates, ratios and errors, but not sizes, defaults and thresholds.
FIGURE = re.compile(
    r"\d (ns|µs|ms|s|seconds?|minutes?|hours?|dB|GB/s|percent|images (a|per) second)\b|\b0\.00\d"
    r"|\d (times|x) (as|faster|slower|longer)"
    r"|(some|about|few|ten|a|hundred) (seconds?|minutes?|hours?|times (as|slower))"
)


def test_the_pages_say_what_was_measured() -> None:
    assert documents.main(["--check"]) == 0, "`python -m bench documents` writes the pages again"


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.stem)
def test_a_changed_record_makes_the_pages_stale(record: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(quality.MEASURED, tmp_path / "measured")
    monkeypatch.setattr(quality, "MEASURED", tmp_path / "measured")
    assert documents.main(["--check"]) == 0
    content = json.loads(record.read_text(encoding="utf-8"))
    row = content["rows"][0]
    name = next(name for name, cell in row.items() if isinstance(cell, float))
    row[name] *= 1.01
    (tmp_path / "measured" / record.name).write_text(json.dumps(content), encoding="utf-8")
    assert documents.main(["--check"]) == 1


@pytest.mark.parametrize("part", documents.PARTS)
def test_a_changed_number_makes_its_page_stale(part: str) -> None:
    begin = f"<!-- numbers: {part} -->"
    (page,) = [text for path in PAGES if begin in (text := path.read_text(encoding="utf-8"))]
    before, after = page.split(begin)
    changed, count = re.subn(r"\d(?=\D*<!-- end -->)", lambda digit: str((int(digit[0]) + 1) % 10), after, count=1)
    assert count == 1
    assert documents.with_numbers(page) == page
    assert documents.with_numbers(before + begin + changed) == page


@pytest.mark.parametrize(
    "path",
    [page for page in (*PAGES, *OTHERS) if page.name != ARITHMETIC],
    ids=lambda path: str(path.relative_to(documents.ROOT)),
)
def test_no_page_has_a_figure_that_was_written_by_hand(path: Path) -> None:
    by_hand = re.sub(r"<!-- numbers: .*?<!-- end -->", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert not [line for line in by_hand.splitlines() if FIGURE.search(line)]


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
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for name in documents.PARTS:
        assert f"<!-- numbers: {name} -->" in text
