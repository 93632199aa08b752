"""The plots of the report, as SVG elements for one page."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

from .promises import MEGABYTE
from .rows import Figures, Rates, Row, find
from .subjects import OPS
from .suites import BACKWARD, BOTH, FORWARD, GRID, SWEEPS, sweep
from .table import number
from .timing import Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colors of Okabe and Ito (2008), which color-blind readers can distinguish, and markers for gray prints.
BACKEND_STYLES = {
    "native": ("#0072B2", "o"),
    "reference": ("#56B4E9", "P"),
    "compiled": ("#009E73", "D"),
    "separable": ("#E69F00", "s"),
    "dense": ("#D55E00", "^"),
    "numba": ("#CC79A7", "v"),
}
OTHER_STYLE = ("#4D4D4D", "X")
DEVICE_LINES = {"cpu": "-", "cuda": "--"}
OP_MARKERS = {"affine_chain": "o", "rbf_rasterize": "s", "render": "^"}
DIRECTION_FILLS = {FORWARD: "full", BACKWARD: "none", BOTH: "left"}

# Inches and points. Text stays readable on a phone, which shrinks a plot to three quarters.
SIZE, FONT_SIZE = (4.3, 3.7), 10
SETTINGS: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": "DejaVu Sans",  # a wide font, so that any replacement has enough room
    "font.size": FONT_SIZE,
    "svg.fonttype": "none",  # keep text as text, in a font of the reader
    "svg.hashsalt": "fractalops",  # the same names of clip paths in every run
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": FONT_SIZE,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "legend.frameon": False,
    "legend.columnspacing": 1.4,
    "legend.handlelength": 2.2,
}


@dataclass(frozen=True)
class Plot:
    """A plot of the page."""

    name: str  # an id in the page
    title: str
    svg: str


def _peak(row: Row) -> Spread | None:
    """Return the peak of memory in MB, or None if it wasn't measured."""
    return Spread.of([row.peak_bytes / MEGABYTE]) if row.peak_bytes else None


# The quantities that are plotted against each size of SWEEPS: unit, and function that reads them from a row.
QUANTITIES: dict[str, tuple[str, Callable[[Row], Spread | None]]] = {
    "time": ("milliseconds", lambda row: row.milliseconds),
    "memory": ("peak memory, MB", _peak),
}


def curves(rows: Sequence[Row]) -> list[Plot]:
    """Return plots of time and memory against each size of SWEEPS for which the rows have data."""
    found = []
    for variable, (axis, _) in SWEEPS.items():
        what = axis.partition(",")[0]  # without its unit
        for quantity in QUANTITIES:
            svg = against(variable, quantity, rows)
            found.append(Plot(f"{quantity}-{variable}", f"{quantity.capitalize()} against {what}", svg))
    return [plot for plot in found if plot.svg]


def rooflines(figures: Figures) -> list[Plot]:
    """Return a roofline plot for each device and number of threads whose rates are known."""
    found = [
        Plot(_name("roofline", rates.where), f"Roofline, {rates.where}", roofline(figures.rows, rates))
        for rates in figures.rates
    ]
    return [plot for plot in found if plot.svg]


def against(variable: str, quantity: str, rows: Sequence[Row]) -> str:
    """Plot render, forward and backward, against one size of SWEEPS. Return an empty string if there is no data."""
    unit, figure = QUANTITIES[quantity]
    axis, sizes = SWEEPS[variable]
    swept = find(rows, suite="scaling")
    curves: dict[tuple[str, str, int], list[tuple[int, Spread]]] = {}
    for size, case in zip(sizes, sweep(variable), strict=True):
        for row in find(swept, case=case.name):
            if spread := figure(row):
                curves.setdefault((row.backend, row.device, row.threads), []).append((size, spread))
    if not curves:
        return ""
    several = len({device for _, device, _ in curves}) > 1
    with _drawing(f"{quantity}-{variable}") as (axes, finished):
        for (backend, device, threads), curve in curves.items():
            color, marker = BACKEND_STYLES.get(backend, OTHER_STYLE)
            x, spreads = zip(*curve, strict=True)
            axes.plot(
                x,
                [spread.median for spread in spreads],
                color=color,
                marker=marker,
                markersize=5,
                linestyle=DEVICE_LINES[device],
                label=f"{backend}, {'GPU' if device == 'cuda' else 'CPU'}" if several else backend,
                gid=_name("line", backend, device, threads),
            )
            low, high = ([getattr(spread, end) for spread in spreads] for end in ("low", "high"))
            axes.fill_between(x, low, high, color=color, alpha=0.25, linewidth=0)
        axes.set(xscale="log", yscale="log", xlabel=axis, title=unit)
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        _plain_numbers(axes.yaxis)
        return finished(columns=2 if several else 3)


def roofline(rows: Sequence[Row], rates: Rates) -> str:
    """Plot operations per second against operations per byte for the native ops on the grid.

    Return an empty string if there is no data.
    """
    cases = {case.name for case in GRID}
    native = find(rows, backend="native", device=rates.device, threads=rates.threads)
    marked = [row for row in native if row.op in OPS and row.case in cases and row.milliseconds and row.bytes]
    bandwidth, most = (rate or math.inf for rate in (rates.bytes_per_second, rates.operations_per_second))
    if not marked or bandwidth == most == math.inf:
        return ""
    intensities = sorted(row.operations / row.bytes for row in marked)
    with _drawing(_name("roofline", rates.where)) as (axes, finished):
        x = [intensities[0] / 3, intensities[-1] * 3]
        if math.inf not in (bandwidth, most):  # the corner
            x.append(min(max(most / bandwidth, x[0]), x[1]))
        roof = [min(bandwidth * each, most) / 1e9 for each in sorted(x)]
        axes.plot(sorted(x), roof, color="#222222", gid="roof")
        color = BACKEND_STYLES["native"][0]
        for op, marker in OP_MARKERS.items():
            for direction, fill in DIRECTION_FILLS.items():
                if here := find(marked, op=op, direction=direction):
                    axes.plot(
                        [row.operations / row.bytes for row in here],
                        [(row.operations_per_second or 0) / 1e9 for row in here],
                        gid=_name("marks", op, direction),
                        **_mark(color, marker, fill),
                    )
        parts = ((rates.bytes_per_second, "GB/s"), (rates.operations_per_second, "Gop/s"))
        known = [f"{number(rate / 1e9)} {unit}" for rate, unit in parts if rate]
        # The legend has three shapes and three fills instead of nine combinations.
        for op, marker in OP_MARKERS.items():
            axes.plot([], [], label=op, **_mark(color, marker, "full"))
        for direction, fill in DIRECTION_FILLS.items():
            axes.plot([], [], label=direction, **_mark(OTHER_STYLE[0], "o", fill))
        axes.set(xscale="log", yscale="log", xlabel="operations a byte", title=f"Gop/s; the roof: {', '.join(known)}")
        for each in (axes.xaxis, axes.yaxis):
            _plain_numbers(each)
        return finished(columns=2)


def _mark(color: str, marker: str, fill: str) -> dict[str, Any]:
    shape = {"marker": marker, "markersize": 7, "fillstyle": fill, "markerfacecoloralt": "white"}
    return {"color": color, "linestyle": "", **shape}


@contextmanager
def _drawing(name: str) -> Iterator[tuple[Axes, Callable[..., str]]]:
    """Yield axes to plot on, and a function that then returns the SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=SIZE, layout="constrained")

        def finished(columns: int) -> str:
            # Below the axes, where it hides no data.
            figure.legend(loc="outside lower left", ncols=columns)
            return _svg(figure, name)

        yield figure.subplots(), finished


def _plain_numbers(axis: Any) -> None:
    """Label a logarithmic axis with 0.1, 1, 10 and so on, and with 2 and 5 if there would be too few labels."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def _svg(figure: Figure, name: str) -> str:
    """Return only the svg element. Every id begins with `name`, so that the ids of two plots differ."""
    text = StringIO()
    figure.savefig(text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)  # it would apply to the whole page
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href", "href")  # not needed in HTML
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)  # the page sets the width, and the viewBox the shape
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\1{name}-", svg)


def _name(*parts: object) -> str:
    return re.sub(r"\W+", "-", "-".join(map(str, parts)))
