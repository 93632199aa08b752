"""The table of a run: a row for each image, as CSV or as Parquet."""

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

_ROWS_AT_ONCE = 2**16  # of a Parquet file in memory


@dataclass(frozen=True)
class TableRow:
    """One image of a run: a row of its table."""

    index: int
    """Its number among the targets."""
    name: str
    label: str
    shard: str
    """The file of its batch, within the run's folder."""
    place: int
    """Its place in the batch, for `FitResult.select`."""
    minimum_mse: float
    mean_mse: float
    steps: int
    seconds: float
    """Its share of the time that the batch took; NaN where that was lost."""


_FIELDS: dict[str, type] = get_type_hints(TableRow)


def check_table_kind(function: str, kind: str) -> None:
    """Raise `ValueError` for an unknown kind of table, `MissingExtra` for one that can't be written here."""
    check_choice(function, "table", kind, KINDS)
    if kind == "parquet":
        _import_parquet(function)


def write_rows(path: Path, rows: Iterable[TableRow]) -> None:
    """Write a table at once, of the kind that its suffix names."""
    if path.suffix == ".parquet":
        _write_parquet(path, rows)
    else:
        write_table(path, list(_FIELDS), map(astuple, rows))


def read_rows(path: Path) -> list[TableRow]:
    """Return the rows of a table. Raises `InputError` for a damaged one, `MissingExtra` for Parquet without pyarrow."""
    parquet = _import_parquet("FitRun.rows") if path.suffix == ".parquet" else None
    with reading(path, "it is damaged"):
        if parquet is not None:
            # As bytes from here: pyarrow takes apart paths that look like keys and values, and takes UTF-8 alone.
            with path.open("rb") as binary:
                return [_parse_row(row) for row in parquet.read_table(binary).to_pylist()]
        with open_table(path, "r") as file:
            lines = _whole_lines(file)
            return [_parse_row(row) for row in csv.DictReader(lines, strict=True)]


def _whole_lines(file: Iterable[str]) -> Iterator[str]:
    """Yield the lines of a table. Raises `ValueError` where the last one was cut short: a number in it may be, too."""
    for line in file:
        if not line.endswith(("\n", "\r")):  # names may hold either
            raise ValueError("its last line has no end")
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
    with (  # as bytes, see `read_rows`
        atomic_path(path, durable=True) as temporary,
        temporary.open("wb") as file,
        parquet.ParquetWriter(file, schema) as writer,
    ):
        while some := [_as_text(row) for row in itertools.islice(left, _ROWS_AT_ONCE)]:
            writer.write_table(pyarrow.Table.from_pylist(some, schema=schema))


def _as_text(row: TableRow) -> dict[str, object]:
    r"""Return a row whose names are text, as Parquet wants it: what is none of a file's name is written as \xff."""
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
