"""The table of a run, one row for each image, as CSV or Parquet."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

from fractalops._checks import check_choice
from fractalops.errors import MissingExtra
from fractalops.io.files import atomic_path, open_table, reading, write_table

TableKind = Literal["csv", "parquet"]
KINDS: tuple[TableKind, ...] = ("csv", "parquet")

_ROWS_AT_ONCE = 2**16  # rows of a Parquet file in memory at the same time


@dataclass(frozen=True)
class TableRow:
    """The row of one image in the table of a run.

    Attributes:
        index (int): Index of the image in the data set.
        name (str): Name of the image.
        label (str): Label of the image.
        shard (str): File of the image's batch, relative to the folder of the run.
        place (int): Index of the image in its batch, for `FitResult.select`.
        minimum_mse (float): See `FitResult`.
        mean_mse (float): See `FitResult`.
        steps (int): See `FitResult`.
        seconds (float): Duration of the batch divided by its number of images; NaN if it was lost.
    """

    index: int
    name: str
    label: str
    shard: str
    place: int
    minimum_mse: float
    mean_mse: float
    steps: int
    seconds: float


_FIELDS: dict[str, type] = get_type_hints(TableRow)


def check_table_kind(function: str, kind: str) -> None:
    """Raise `ValueError` for an unknown format, and `MissingExtra` for Parquet without pyarrow."""
    check_choice(function, "table", kind, KINDS)
    if kind == "parquet":
        _import_parquet(function)


def write_rows(path: Path, rows: Iterable[TableRow]) -> None:
    """Write all rows to a table in the format of the suffix of `path`."""
    if path.suffix == ".parquet":
        _write_parquet(path, rows)
    else:
        write_table(path, list(_FIELDS), map(astuple, rows))


def read_rows(path: Path) -> list[TableRow]:
    """Return the rows of a table.

    Raises:
        InputError: If the table is damaged.
        MissingExtra: If it is Parquet and pyarrow is not installed.
    """
    parquet = _import_parquet("FitRun.rows") if path.suffix == ".parquet" else None
    with reading(path, "it is damaged"):
        if parquet is not None:
            # Opened here, in binary mode: pyarrow interprets paths that look like keys and values, and accepts only
            # UTF-8.
            with path.open("rb") as binary:
                return [_parse_row(row) for row in parquet.read_table(binary).to_pylist()]
        with open_table(path, "r") as file:
            lines = _whole_lines(file)
            return [_parse_row(row) for row in csv.DictReader(lines, strict=True)]


def _whole_lines(file: Iterable[str]) -> Iterator[str]:
    """Yield the lines of a table.

    Raises:
        ValueError: If the last line has no line break: the file, and a number in it, may be truncated.
    """
    for line in file:
        if not line.endswith(("\n", "\r")):  # a name can contain either line break
            raise ValueError("its last line is incomplete")
        yield line


def _parse_row(row: dict[str, Any]) -> TableRow:
    if row.keys() != _FIELDS.keys() or None in row.values():
        raise ValueError(f"a row must have {', '.join(_FIELDS)}")
    return TableRow(**{name: kind(row[name]) for name, kind in _FIELDS.items()})


def _write_parquet(path: Path, rows: Iterable[TableRow]) -> None:
    import pyarrow

    parquet = _import_parquet("fit_dataset")
    types = {int: pyarrow.int64(), float: pyarrow.float64(), str: pyarrow.string()}
    schema = pyarrow.schema([(name, types[kind]) for name, kind in _FIELDS.items()])
    left: Iterator[TableRow] = iter(rows)
    with (  # in binary mode, see `read_rows`
        atomic_path(path, durable=True) as temporary,
        temporary.open("wb") as file,
        parquet.ParquetWriter(file, schema) as writer,
    ):
        while some := [_as_text(row) for row in itertools.islice(left, _ROWS_AT_ONCE)]:
            writer.write_table(pyarrow.Table.from_pylist(some, schema=schema))


def _as_text(row: TableRow) -> dict[str, object]:
    r"""Return a row in which names are valid UTF-8, as Parquet requires. Invalid bytes of file names become \xff."""
    return {
        name: value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        if isinstance(value, str)
        else value
        for name, value in asdict(row).items()
    }


def _import_parquet(function: str) -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra(function, "pyarrow", "parquet") from error
    return pyarrow.parquet
