"""Tests that the figures in README.md and docs/ are those of bench/measured.json and docs/measured/."""

from __future__ import annotations

import json
import re
import runpy
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bench import documents, quality
from bench.promises import promises
from bench.rows import Figures
from fractalops.experiments.outcome import differs

FIGURES = Figures.load(documents.MEASURED)
RECORDS = sorted(quality.MEASURED.glob("*.json"))
PAGES = [documents.ROOT / "README.md", *(documents.ROOT / "docs").rglob("*.md")]
OTHERS = [documents.ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
# Lower bounds that are computed from data sheets, and a page that another command writes.
OTHER_PAGES = ("gpu-arithmetic.md", "compatibility.md")
# Times, rates, ratios, percentages and small errors, also in code.
FIGURE = re.compile(
    r"\d (ns|µs|ms|s|seconds?|minutes?|hours?|dB|[kMG]i?B/s|percent|(points|images|pictures) (a|per) second)\b"
    r"|\d ?%|\b0\.00\d|(thousand|million) (points|images|pictures) (a|per) second"
    r"|\d (times|x) (as|faster|slower|longer|better|worse)|(twice|half) (as|the (time|error))"
    r"|(some|about|few|ten|a|hundred) (seconds?|minutes?|hours?|times (as|slower))"
)
# All other figures are decimals. Decimals that were not measured, outside of code:
DEFINITION = re.compile(
    r"Python 3\.10|torch 2\.11|first version, 0\.1\.0|sections? \d\.\d|arXiv:\d+\.\d+"  # versions and sources
    r"|capability 7\.5(, \d+\.0|, 8\.\d)+ and 12\.0|capability 8\.0(, \d+\.0|, 8\.\d)+ and 12\.0"  # of GPUs
    r"|±2\.5|\(-2\.5, -2\.5, 2\.5, 2\.5\)|binarized at 0\.2|learning_rate=0\.002"
    r"|bandwidths (of )?0\.3, 1 and 4|above 8\.5e37"  # settings
    r"|more than 3 %|at least\s+15 %|at least 50 %|below 0\.0455|about 0\.1 by chance"  # thresholds, and the quantile
)
CODE = re.compile(r"^```.*?^```|`[^`\n]*`|\]\([^)\n]*\)", re.DOTALL | re.MULTILINE)  # and the targets of links


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
    [page for page in (*PAGES, *OTHERS) if page.name not in OTHER_PAGES],
    ids=lambda path: str(path.relative_to(documents.ROOT)),
)
def test_no_page_has_a_figure_that_was_written_by_hand(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert figures_by_hand(text) == []
    assert path in PAGES or documents.PART.search(text) is None, "only pages in docs/ and README.md are written"


def figures_by_hand(page: str) -> list[str]:
    """Return the lines of a page that have a figure outside of the parts."""
    by_hand = DEFINITION.sub("", documents.PART.sub("", page))
    prose = CODE.sub("", by_hand)
    return [line for line in by_hand.splitlines() if FIGURE.search(line)] + re.findall(r".*\d\.\d.*", prose)


def test_no_help_text_has_a_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    hooks = runpy.run_path(str(documents.ROOT / "docs" / "hooks.py"))
    for command in ("", *hooks["COMMANDS"]):
        assert not [line for line in hooks["help_text"](command).splitlines() if FIGURE.search(line)], command


@pytest.mark.parametrize(
    "text",
    [
        "`fit` of a digit takes 244 ms.",
        "The mean error is 0.0202.",
        "| leaf | 256 x 256 | 35.64 |",
        "An IoU of 0.97.",
        "It draws 14.7 million points a second.",
        "It draws 15 million points per second.",
        "It is 257 x faster.",
        "The error is 12 % smaller.",
        "```\nleaf: 9 s\n```",
        "It takes half the time.",
        "<!-- numbers: rate -->0.0202<!-- end -->",
    ],
)
def test_figures_by_hand_are_found(text: str) -> None:
    assert figures_by_hand(f"Above.\n{text}\n<!-- numbers: rate -->\n14.7\n<!-- end -->\n")
    assert figures_by_hand("The images have 32 x 32 pixels (section 5.2). `bandwidth=1.5` is a setting.") == []


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.stem)
def test_findings_agree_with_the_rows(record: Path) -> None:
    """The verdict follows from the difference, and the difference from two means, which are cells or means of cells."""
    outcome = quality.Record.load(record.stem).outcome
    cells = {f"{cell:.4g}" for row in outcome.rows for cell in row.values() if isinstance(cell, float)}
    for finding in outcome.findings:
        if once := re.fullmatch(r"(\S+), measured once", finding.detail):
            assert once[1] in cells, finding
        if paired := re.fullmatch(r"(\S+) against (\S+), a difference of (\S+) \+- (\S+)", finding.detail):
            one, other, gain, error = map(float, paired.groups())
            assert abs(abs(other - one) - abs(gain)) < (0.01 if "mean PSNR" in finding.claim else 2e-4), finding
            assert "mean PSNR" in finding.claim or {paired[1], paired[2]} <= cells, finding
            assert finding.verdict == differs("", one, other, gain, error).verdict, finding


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
    for name in ("c", "By hand-2"):
        with pytest.raises(ValueError, match=rf"^with_numbers: page must have parts of \['a', 'b'\], got '{name}'"):
            documents.with_numbers(f"<!-- numbers: {name} -->\n<!-- end -->")
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
