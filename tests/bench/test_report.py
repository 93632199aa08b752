"""Tests of the report, a self-contained page, and of the summary: both state the figures correctly."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bench import report
from bench.plots import QUANTITIES, against, curves, roofline, rooflines
from bench.rows import Figures, Rates, Row
from bench.suites import BOTH, LONG_CHAIN, PAPER, SWEEPS
from bench.timing import Spread
from fractalops.errors import MissingExtra
from tests.bench.rows import DENSE, on_gpu, row, swept, timed
from tests.support.requirements import need_matplotlib

VOID = {"br", "meta"}
HOSTILE = "<b>&\"'</script><!--<script>"
LEFT_OUT = "left out: it would need about 9 GB"


@pytest.fixture(autouse=True)
def _matplotlib() -> None:
    need_matplotlib()


def without_figures(row: Row) -> Row:
    return replace(timed(row), peak_bytes=None, problem=LEFT_OUT)


NATIVE = row(PAPER, 1.51, 1.41, 1.61, direction=BOTH)
ROWS = (
    NATIVE,
    replace(timed(NATIVE, 300, 310, 320), backend="dense", times=Spread(198.7, 198.7, 219.9)),
    without_figures(replace(NATIVE, backend="compiled")),
    replace(on_gpu(NATIVE), device_name=HOSTILE, peak_bytes=None),
    row(PAPER, 0.05, 0.055, 0.06, op="affine_chain", images=0, side=0, radius=0),
    row(LONG_CHAIN, 50, 60, op="affine_chain", images=0, side=0, radius=0, threads=2),
    row(PAPER, 2500, op="fit", direction="1 image", images=1),
)
CPU = [each for variable in SWEEPS for each in swept(variable, factor=0.01)]
# The largest has no figures.
SEPARABLE = [
    without_figures(each) if each is rows[-1] else each
    for variable in SWEEPS
    for rows in [swept(variable, factor=0.2, backend="separable")]
    for each in rows
]
FIGURES = Figures(
    ROWS,
    (Rates("cpu", 1, 2e10, 1e11), Rates("cpu", 2, 3e10, None), Rates("cuda", 0, None, None)),
    {"date": "2026-11-26", "fractalops": "0.1.0", "torch": "2.13.0", "processor": HOSTILE},
)
WHOLE = replace(FIGURES, rows=(*ROWS, *CPU, *map(on_gpu, CPU), *SEPARABLE))


@cache
def page_of_all() -> str:
    return report.page(WHOLE, WHOLE)


class Page(HTMLParser):
    """The elements of a page, which must be nested correctly."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.cells: list[list[str]] = []  # for each row of a table
        self.script = ""  # the figures
        self._in_figures = False
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")
        self._in_figures = tag == "script" and ("id", "figures") in attributes

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attributes if name == "id" and value]
        self.links += [value or "" for name, value in attributes if name in ("href", "src", "srcset", "data")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._in_figures:
            self.script += data
        elif "tr" in self.open and ("td" in self.open or "th" in self.open):
            self.cells[-1][-1] += data

    def line(self, *beginning: str) -> list[str]:
        """Return the only row of a table that begins with these cells."""
        (found,) = [each for each in self.cells if each[: len(beginning)] == list(beginning)]
        return found


def tables(*rows: Row) -> list[list[str]]:
    """Return the rows of the tables of ops: their heads, and the rows of each backend."""
    cells = Page(report.page(replace(FIGURES, rows=rows))).cells
    known = {"backend", *(row.backend for row in rows)}
    return [line for line in cells if line[0] in known]


def test_the_page_is_well_formed_and_needs_nothing_beside_it() -> None:
    text = page_of_all()
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    assert not re.search(r"https?://|//[a-z]|\bsrc\s*=|<link|@import", text)
    assert page.links
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    named = re.findall(r"url\((.*?)\)", text)
    assert named
    assert all(name.startswith("#") and name[1:] in page.ids for name in named)
    assert '<meta name="viewport"' in text


def test_the_same_figures_give_the_same_page() -> None:
    assert report.page(WHOLE, WHOLE) == page_of_all()


def test_the_rows_stand_in_the_page(tmp_path: Path) -> None:
    (tmp_path / "figures.json").write_text(Page(page_of_all()).script)
    assert Figures.load(tmp_path / "figures.json").text() == WHOLE.text()


def test_strings_are_no_markup() -> None:
    text = report.page(replace(FIGURES, rows=(replace(NATIVE, backend=HOSTILE, case=HOSTILE, problem=HOSTILE),)))
    Page(text)
    assert "<b>" not in text
    assert text.count("<script") == text.count("</script>") == 2
    assert "&lt;b&gt;&amp;" in text


def test_promises_are_told_in_words() -> None:
    page = Page(report.page(FIGURES))
    at = "render, forward and backward, paper"
    assert page.line(f"at least 150 times as fast as dense{at}, 1 thread")[1:] == ["199 [199, 220]", "kept"]
    assert page.line(f"at least 25 times as fast as separable{at}, 1 thread")[1:] == [
        "separable was not measured",
        "not measured",
    ]
    assert page.line(f"at least 8 times as fast as compiled{at}, 1 thread")[1:] == [LEFT_OUT, "not measured"]
    assert page.line("at most 100 sfit, 100 images, paper")[1:] == ["", "not measured"]


def test_what_has_a_problem_has_no_figures() -> None:
    page = Page(report.page(FIGURES))
    assert page.line("compiled") == ["compiled", LEFT_OUT]
    assert page.line("dense")[:2] == ["dense", "310 [300, 320]"]
    nothing = Figures((without_figures(NATIVE), row(PAPER)), (), {"fractalops": "0.1.0"})
    cells = [line for line in Page(report.page(nothing)).cells if line[:1] == ["native"]]
    assert cells == [["native", LEFT_OUT], ["native", "not measured"]]


def test_every_figure_of_a_row_in_its_column() -> None:
    head, native, dense = tables(NATIVE, ROWS[1])
    assert head == [
        "backend",
        "ms",
        "ns a point",
        "images/s",
        "million points/s",
        "GB/s",
        "Gop/s",
        "% of the roofline",
        "peak MB",
        "native: times as fast",
    ]
    assert native[1:5] == ["1.51 [1.41, 1.61]", "101", "33,100", "9.93"]
    assert native[8:] == ["3.00", ""]
    assert dense[9] == "199 [199, 220]"
    share = 100 * NATIVE.operations / 1e11 / 1.51e-3
    assert float(native[7]) == pytest.approx(share, rel=0.01)


def test_columns_without_figures_are_left_out() -> None:
    assert tables(replace(ROWS[6], peak_bytes=None))[0] == ["backend", "ms", "images/s"]
    head = tables(replace(ROWS[4], device="cuda", threads=0))[0]
    assert head == ["backend", "ms", "ns a point", "million points/s", "GB/s", "Gop/s", "peak MB"]
    assert tables(without_figures(NATIVE))[0] == ["backend", "ms"]


def test_rows_are_grouped_by_what_was_timed_in_turn() -> None:
    text = report.page(FIGURES)
    assert re.findall(r"<h3 id.*?>(.*?)</h3>", text) == ["render", "affine_chain", "fit"]
    assert re.findall(r"<h4>(.*?) <", text) == ["paper", "paper", "long chain", "paper"]
    render = [line[0] for line in Page(text).cells if line[0].startswith(("forward", *report.BACKENDS))][:6]
    groups = ["forward and backward, 1 thread", "native", "dense", "compiled", "forward and backward, GPU", "native"]
    assert render == groups


def test_changes_are_told_apart() -> None:
    slower, faster = timed(NATIVE, 3.02, 3.02, 3.02), timed(ROWS[4], 0.01, 0.01, 0.01)
    new = replace(FIGURES, rows=(slower, faster, *ROWS[2:4], *ROWS[5:]))
    text = report.page(new, replace(FIGURES, rows=ROWS[:-1]))
    page = Page(text)
    moved = [line for line in page.cells if len(line) == 4 and line[2].startswith(("1.51", "0.055"))]
    assert [(line[0].partition(",")[0], line[1]) for line in moved] == [("render", "2.00"), ("affine_chain", "0.182")]
    assert text.index("<h3>Slower</h3>") < text.index("<h3>Faster</h3>")
    assert "1 became slower and 1 faster" in text
    assert "Only the old run has a figure: 1" in text
    assert "<li>render, forward and backward, paper, dense, A processor, 1 thread</li>" in text
    assert "Only this run has a figure: 1" in text
    assert "Changes" not in report.page(FIGURES)


def test_nothing_changed() -> None:
    text = report.page(FIGURES, FIGURES)
    assert "0 became slower and 0 faster" in text
    assert "<h3>Slower" not in text
    assert "Only the old run" not in text


def test_the_page_of_no_rows() -> None:
    text = report.page(Figures((), (), {}))
    Page(text)
    assert "nothing that is plotted" in text
    assert "none of the sweeps" in text


def test_the_method_is_that_of_the_devices() -> None:
    text = report.page(FIGURES)
    assert "On the CPU" in text
    assert "1 thread on core 0; 2 threads on cores 0" in text
    assert "On the GPU" in text
    assert "On the GPU" not in report.page(replace(FIGURES, rows=(NATIVE,)))
    assert "in 3 rounds" in report.page(replace(FIGURES, rows=(NATIVE,)))
    assert "in 1 to 3 rounds" in text


@pytest.mark.parametrize("variable", ["points", "radius"])
def test_a_line_for_each_backend_and_device(variable: str) -> None:
    rows = WHOLE.rows
    for quantity in QUANTITIES:
        svg = against(variable, quantity, rows)
        names = re.findall(r'id="[\w-]*?-(line-\w+-\w+-\d)"', svg)
        assert names == ["line-native-cpu-1", "line-native-cuda-0", "line-separable-cpu-1"]
        assert all(label in svg for label in (">native, CPU<", ">native, GPU<", ">separable, CPU<"))
        assert svg.startswith("<svg")
        assert svg.endswith("</svg>")
        assert svg == against(variable, quantity, rows)
    assert against(variable, "time", [NATIVE]) == ""
    assert against(variable, "memory", [replace(each, peak_bytes=0) for each in rows]) == ""
    one = against(variable, "time", [each for each in rows if each.device == "cpu"])
    assert ">native<" in one
    assert len(re.findall(r'id="[\w-]*?-line-\w+-cpu-1"', one)) == 2


def test_the_roofline_has_a_mark_for_each_op_and_direction() -> None:
    svg = roofline(FIGURES.rows, FIGURES.rates[0])
    assert re.findall(r'id="roofline-1-thread-(roof|marks-[\w-]+)"', svg) == [
        "roof",
        "marks-affine_chain-forward",
        "marks-render-forward-and-backward",
    ]
    assert "the roof: 20.0 GB/s, 100 Gop/s<" in svg
    assert "the roof: 30.0 GB/s<" in roofline(FIGURES.rows, FIGURES.rates[1])
    assert roofline(FIGURES.rows, FIGURES.rates[2]) == ""  # the GPU's rates are unknown
    assert roofline([], FIGURES.rates[0]) == ""
    assert [plot.title for plot in rooflines(FIGURES)] == ["Roofline, 1 thread", "Roofline, 2 threads"]


def test_all_that_can_be_plotted_is() -> None:
    drawn = curves(WHOLE.rows)
    assert [plot.title for plot in drawn[:2]] == [
        "Time against points of a sequence",
        "Memory against points of a sequence",
    ]
    assert len(drawn) == 2 * len(SWEEPS)
    assert curves(ROWS) == []
    assert report.page(FIGURES).count("<svg") == 2


def test_written_as_a_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    report.write(FIGURES, path)
    assert path.read_text(encoding="utf-8") == report.page(FIGURES)
    monkeypatch.setattr(report, "growths", lambda rows: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report.write(FIGURES, path)
    assert path.stat().st_size > 0
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_without_a_package_the_extra_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"fractalops bench: needs {package}.*fractalops\[bench\]"):
        report.page(FIGURES)


def test_the_summary_for_the_terminal() -> None:
    render = replace(NATIVE, direction=BOTH)
    failed = replace(timed(render), backend="compiled", problem="left out: it would need about 9 GB")
    slow = replace(timed(render, 3.0), backend="separable", times=Spread(2, 2, 2))
    rows = (render, replace(DENSE, direction=BOTH), failed, slow, *swept("points", 1.25))
    text = report.summary(Figures(rows, (), {}))
    assert "1.51 [1.41, 1.61]" in text
    assert "200 [190, 220]" in text
    assert "left out: it would need about 9 GB" in text
    assert "1.25 (1.00)" in text
    assert "NOT kept" in text
    assert "at least 150" in text
    assert "points 300" not in text  # a point of a curve
    assert report.summary(Figures((), (), {})) == ""
