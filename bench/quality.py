"""Tables of the quality of `fit`, from the results of `fractalops experiment` in docs/measured/."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from fractalops.experiments import Finding, Outcome

from .table import markdown

MEASURED = Path(__file__).parent.parent / "docs" / "measured"
_DATA = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST"}
_CHOSEN_BY = (
    ("paper", "published settings"),
    ("default", "**defaults, with 300 points**"),
    ("independent sequences", "defaults, independent sequences"),
    ("20 maps", "defaults, 20 maps"),
    ("20 maps, the paper's work", "20 maps, as many sequences as published"),
)
_HELD_OUT = (
    ("paper", "published settings"),
    ("points by what is shown", "**defaults**"),
    ("20 maps, the paper's work", "20 maps, as many sequences as published"),
)


@dataclass(frozen=True)
class Record:
    """The results of an experiment, with its command, machine and date."""

    command: str
    machine: str
    day: date
    outcome: Outcome

    @classmethod
    def load(cls, name: str) -> Record:
        """Read docs/measured/NAME.json: rows, findings and notes as in metrics.json, with command, machine and date."""
        found: dict[str, Any] = json.loads((MEASURED / f"{name}.json").read_text(encoding="utf-8"))
        rows = [{key: math.nan if cell is None else cell for key, cell in row.items()} for row in found["rows"]]
        outcome = Outcome(rows, [Finding(**finding) for finding in found["findings"]], found["notes"])
        return cls(found["command"], found["machine"], date.fromisoformat(found["date"]), outcome)


def all_rows(name: str) -> str:
    """Return a record in Markdown: command, date, machine, table, findings and notes."""
    record = Record.load(name)
    source = f"`{record.command}`\n\nMeasured on {record.day.day} {record.day:%B %Y}. Machine: {record.machine}."
    items = [f"- {item}" for item in (*record.outcome.findings, *record.outcome.notes)]
    return "\n\n".join(part for part in (source, record.outcome.table(), "\n".join(items)) if part)


def _means(name: str, shown: tuple[tuple[str, str], ...]) -> str:
    found = {(row["data"], row["variant"]): row for row in Record.load(name).outcome.rows}
    lines = []
    for settings, label in shown:
        of = [found[data, settings] for data in _DATA]
        sequences = " to ".join(f"{number:,}" for number in sorted({int(row["sequences"]) for row in of}))
        lines.append([label, sequences, *(f"{row['mean MSE']:.4f}" for row in of)])
    head = ["mean of the minimum MSE, 50 images each", "sequences per image", *_DATA.values()]
    return markdown(head, lines)


def small_images() -> str:
    """Return the tables of the images by which settings were chosen and of other images."""
    chosen, held_out = _means("recipe", _CHOSEN_BY), _means("recipe-held-out", _HELD_OUT)
    return f"{chosen}\n\nOn images that were not used to choose settings:\n\n{held_out}"


def small_images_in_short() -> str:
    """Return the table of the images that were not used to choose settings."""
    return _means("recipe-held-out", _HELD_OUT)


def pictures() -> str:
    """Return the table of pictures at their own size, learned with the default settings."""
    lines = [
        [
            str(row["target"]),
            str(row["pixels"]),
            str(row["maps"]),
            f"{row['PSNR']:.1f} dB",
            f"{row['SSIM']:.3f}",
            f"{row['CPU seconds']:.0f} s",
        ]
        for row in Record.load("pictures").outcome.rows
        if row["learned as"] == "fractal, mean"
    ]
    return markdown(["picture", "pixels", "maps", "PSNR", "SSIM", "CPU time"], lines)
