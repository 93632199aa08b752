"""Reports of a benchmark run: a self-contained page, and a summary for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path

from fractalops.errors import MissingExtra
from fractalops.io.files import atomic_path

from .plots import curves, rooflines
from .promises import MEGABYTE, promises
from .rows import Figures, Rates, Row, compare, find
from .table import aligned, exponent_text, number, shape_text, spread_text
from .timing import Spread
from .work import growths

TEMPLATE = Path(__file__).with_name("report.html")

# Explanations for new readers.
OPS = {
    "affine_chain": "The points of each sequence: each map is applied to the previous point.",
    "rbf_rasterize": "Images of points. Each point is drawn as a Gaussian bump.",
    "render": "The chain and the rasterizer, from maps to images.",
    "rasterize_points": "Images of points. Each point is counted on its nearest pixel. There are no gradients.",
    "pretrain": "One image of `FractalDataset` for pre-training with a patch on every point, by FractalDB's rules "
    "(equal pixels) and by its own. By FractalDB's rules, each point depends on the previous one. It takes at least "
    "the latency of a product and two sums.",
    "spreading": "One image full of points, against the spreader of a nonuniform FFT, which does the same work.",
    "step": "One optimization step of fit, and for comparison the time of the two ops in it.",
    "fit": "Fractals learned for images, with all steps, by the published settings and by the defaults.",
}
BACKENDS = {
    "native": "the kernels of this package",
    "reference": "the definition in plain PyTorch, a loop over the points; all others are compared with it",
    "separable": "only tensor operations: a scan of the maps in log2(points) passes, and images as the product of two "
    "tables of exponentials",
    "compiled": "the separable backend, compiled by torch.compile",
    "dense": "only tensor operations: a loop over the points, and exponentials of the distances of all points from all "
    "pixels",
    "numba": "a loop over the points, compiled by numba",
    "python": "the same loop in Python, as in published generators",
    "finufft": "the spreader of FINUFFT, with sorting: bumps 7 pixels wide on a periodic complex image",
    "one thread": "the kernels of this package on one thread",
    "ops alone": "the chain and the rasterizer, forward and backward, without the rest of an optimization step",
}

Lines = list[tuple[str, ...]]


def write(figures: Figures, path: str | Path, old: Figures | None = None) -> None:
    """Write the page to a file."""
    text = page(figures, old)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check_extras() -> None:
    """Raise `MissingExtra` if a package for the page is missing. Called before measuring, so that no time is lost."""
    for package in ("jinja2", "matplotlib"):
        try:
            import_module(package)
        except ImportError as error:
            raise MissingExtra("fractalops bench", package, "bench") from error


def page(figures: Figures, old: Figures | None = None) -> str:
    """Return the page, with the changes since `old`.

    Raises `MissingExtra` if jinja2 or matplotlib is not installed.
    """
    check_extras()
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"number": number, "spread": spread_text, "exponent": exponent_text, "grouped": grouped}
    rows = figures.rows
    judged = promises(rows)
    text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        figures=figures,
        promises=judged,
        tally=Counter(each.state for each in judged),
        measured=[row for row in rows if row.suite != "scaling"],
        swept=find(rows, suite="scaling"),
        columns=lambda rows: columns(rows, figures.rates),
        shape=shape_text,
        ops=OPS,
        backends={name: text for name, text in BACKENDS.items() if find(rows, backend=name)},
        curves=curves(rows),
        rooflines=rooflines(figures),
        growths=growths(rows),
        old=old,
        comparison=compare(old.rows, rows) if old else None,
        devices={row.device for row in rows},
        rounds=sorted({row.rounds for row in rows} - {0}),
        pinned=sorted({f"{row.where} on core{'s' * (row.threads > 1)} {row.pinned}" for row in rows if row.pinned}),
        json=figures.text().replace("<", r"\u003c"),  # so that no tag in it ends the element around it
    )
    return text.rstrip() + "\n"


def columns(rows: Sequence[Row], rates: Iterable[Rates]) -> dict[str, Callable[[Row], str]]:
    """Return for each column its name and the function of its cells. Columns without figures are left out."""
    roofs = {(each.device, each.threads): each for each in rates}

    def share(row: Row) -> float | None:
        roof = roofs.get((row.device, row.threads))
        return roof.share(row) if roof else None

    found: dict[str, Callable[[Row], str]] = {
        "ms": lambda row: _text(row.milliseconds),
        "ns a point": lambda row: _text(row.nanoseconds_a_point),
        "images/s": lambda row: _text(row.images_per_second),
        "million points/s": lambda row: _text(row.points_per_second, 1e6),
        "GB/s": lambda row: _text(row.bytes_per_second, 1e9),
        "Gop/s": lambda row: _text(row.operations_per_second, 1e9),
        "% of the roofline": lambda row: _text(share(row), 0.01),
        "peak MB": lambda row: _text(row.peak_bytes, MEGABYTE),
        "native: times as fast": lambda row: _text(row.times),
    }
    measured = [row for row in rows if not row.problem]
    return {name: text for name, text in found.items() if name == "ms" or any(map(text, measured))}


def _text(value: float | Spread | None, unit: float = 1.0) -> str:
    if value is None:
        return ""
    return spread_text(value) if isinstance(value, Spread) else number(value / unit)


def grouped(rows: Iterable[Row], *names: str) -> list[tuple[tuple[str, ...], list[Row]]]:
    """Return the rows, grouped by the values of these fields, in the order in which they were measured."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(getattr(row, name) for name in names), []).append(row)
    return list(groups.items())


def summary(figures: Figures, old: Figures | None = None) -> str:
    """Return the summary: all contests except the sweeps, the growth in the sweeps, the promises, and the changes."""
    rows = figures.rows
    parts = [
        _titled("medians, with the 20th and 80th percentiles in brackets", _rows(rows)),
        _titled("growth of a native render, forward and backward: measured exponent (expected)", _growths(rows)),
        _titled("promises", _promises(rows)),
        _titled("changes beyond the spread since the older figures", _changes(old.rows, rows) if old else []),
    ]
    return "\n\n".join(part for part in parts if part)


def _titled(title: str, lines: Lines) -> str:
    """Return a table with a title, or an empty string if it has no lines."""
    return "\n".join([title, *aligned(lines)]) if len(lines) > 1 else ""


def _rows(rows: Sequence[Row]) -> Lines:
    lines: Lines = [("op", "direction", "case", "on", "backend", "ms", "ns a point", "native: times as fast")]
    for row in rows:
        if row.suite != "scaling":
            cells = ("-", "", row.problem or "not measured")
            if row.milliseconds:
                cells = (_text(row.milliseconds), _text(row.nanoseconds_a_point), _text(row.times))
            lines.append((row.op, row.direction, row.case, row.where, row.backend, *cells))
    return lines


def _growths(rows: Sequence[Row]) -> Lines:
    lines: Lines = [("with", "on", "time", "memory")]
    for each in growths(rows):
        figures = ((each.time, each.expected_time), (each.memory, each.expected_memory))
        texts = ["-" if found is None else f"{exponent_text(found)} ({exponent_text(due)})" for found, due in figures]
        lines.append((each.variable, each.where, *texts))
    return lines


def _changes(old: Sequence[Row], new: Sequence[Row]) -> Lines:
    compared = compare(old, new)
    lines: Lines = [("measurement", "x the time")]
    lines += [(str(each.new), number(each.factor)) for each in compared.moved]
    alone = len(compared.only_old) + len(compared.only_new)
    return [*lines, (f"figures that only one of the two runs has: {alone}", "")]


def _promises(rows: Sequence[Row]) -> Lines:
    lines: Lines = [("op", "direction", "case", "on", "figure", "bound", "found", "")]
    judged = promises(rows)
    for each in judged if any(each.where for each in judged) else []:
        target, found = each.target, _text(each.found) or each.problem
        what = (target.op, target.direction, target.case, each.where)
        lines.append((*what, target.meaning, target.bound, found, each.state))
    return lines
