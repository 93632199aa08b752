"""Tests of the index of a run as Parquet: it has the same rows as CSV, and wrong tables are refused."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from fractalops import FitRun, InputError, MissingExtra
from fractalops.fitting import run_table
from fractalops.fitting.run_table import TableKind, TableRow, read_rows, write_rows
from tests.support.learning import Interruption
from tests.support.runs import interrupt, pictures, run

pytestmark = pytest.mark.usefixtures("one_thread")


def without_seconds(learned: FitRun) -> list[tuple[object, ...]]:
    return [(row.name, row.label, row.shard, row.place, row.minimum_mse, row.mean_mse) for row in learned.rows]


def test_parquet_has_the_rows_of_csv(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    learned = run(tmp_path / "run", table="parquet")
    assert learned.table == tmp_path / "run" / "index.parquet"
    assert not (tmp_path / "run" / "index.csv").exists()
    assert without_seconds(FitRun.load(tmp_path / "run")) == without_seconds(run(tmp_path / "csv"))
    table = parquet.read_table(tmp_path / "run" / "index.parquet")
    types = ["int64", "string", "string", "string", "int64", "double", "double", "int64", "double"]
    assert [str(kind) for kind in table.schema.types] == types


def test_a_finished_run_gets_the_other_kind_without_learning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    rows = run(tmp_path).rows
    Interruption(0).install(monkeypatch)
    for kind, other in (("parquet", "csv"), ("csv", "parquet")):
        assert run(tmp_path, table=kind).rows == rows
        assert (tmp_path / f"index.{kind}").exists()
        assert not (tmp_path / f"index.{other}").exists()


def test_a_run_that_is_learned_anew_has_no_index_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    run(tmp_path, table="parquet")
    interrupt(tmp_path, monkeypatch, step=3, overwrite=True, source=pictures(4))
    assert not (tmp_path / "index.parquet").exists()
    with pytest.raises(InputError, match=r"the run is not finished; "):
        FitRun.load(tmp_path)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("count", [1, 6])
def test_rows_come_back_whatever_their_names_and_numbers(
    kind: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    monkeypatch.setattr(run_table, "_ROWS_AT_ONCE", 2)
    names = ["a,b.png", 'line\nand "quote".png', "\u00e9\u732b.png", "", "a\rb", "latin\udce9.png"]
    rows = [
        TableRow(i, names[i], "", "systems/00000.safetensors", 2**40, 1e-9 / 3, float("inf"), i, -0.5)
        for i in range(count)
    ]
    path = tmp_path / f"index.{kind}"
    write_rows(path, iter(rows))
    expected = {"latin\udce9.png": "latin\\xe9.png"} if kind == "parquet" else {}  # Parquet stores only valid text
    found = read_rows(path)
    assert [row.name for row in found] == [expected.get(row.name, row.name) for row in rows]
    assert [(row.place, row.minimum_mse, row.mean_mse) for row in found] == [(2**40, 1e-9 / 3, float("inf"))] * count


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no table" * 9])
def test_a_damaged_table_is_refused(content: bytes, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    learned = run(tmp_path, table="parquet")
    learned.table.write_bytes(content)
    with pytest.raises(InputError, match=rf"^cannot read {tmp_path / 'index.parquet'}: .+$") as caught:
        _ = FitRun.load(tmp_path).rows
    assert "\n" not in str(caught.value)


def test_an_error_of_pyarrow_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    learned = run(tmp_path, table="parquet")
    monkeypatch.setattr(parquet, "read_table", Mock(side_effect=NotImplementedError("one\n  two\nthree")))
    with pytest.raises(InputError, match=rf"^cannot read {learned.table}: it is damaged \(one two three\)$"):
        _ = FitRun.load(tmp_path).rows


CUTS = {"a character": -1, "the seconds": -4, "a row": "\n4,", "all rows": "\n0,", "half": 150, "all": 0}


@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_a_table_that_was_cut_short_is_refused_and_mended_by_the_same_call(
    cut: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = run(tmp_path).table
    whole = path.read_bytes()
    at = CUTS[cut]
    path.write_bytes(whole[: at if isinstance(at, int) else whole.index(at.encode()) + 1])
    assert path.read_bytes() != whole
    with pytest.raises(InputError, match=rf"^cannot read {path}: .+$"):
        _ = FitRun.load(tmp_path).rows
    Interruption(0).install(monkeypatch)  # nothing is learned
    run(tmp_path)
    assert path.read_bytes() == whole


CHANGES: dict[str, tuple[dict[str, object], str]] = {
    "out of the folder": ({"shard": "../x"}, r"shard must be systems/NUMBER.safetensors, got '../x'"),
    "out of systems": ({"shard": "systems/../00000.safetensors"}, r"shard must be systems/NUMBER.safetensors, got "),
    "absolute": ({"shard": "/systems/00000.safetensors"}, r"shard must be systems/NUMBER.safetensors, got "),
    "no number": ({"shard": "systems/\u0661\u0661\u0661\u0661\u0661.safetensors"}, r"shard must be "),
    "a negative place": ({"place": -1}, r"its places in systems/00000.safetensors must be 0 to 1$"),
    "a place of another": ({"place": 1}, r"its places in systems/00000.safetensors must be 0 to 1$"),
    "an image of another": ({"index": 1}, r"its images must be in ascending order, without duplicates$"),
}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_table_with_a_wrong_row_is_refused(change: str, kind: TableKind, tmp_path: Path) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    learned = run(tmp_path, table=kind)
    fields, reason = CHANGES[change]
    write_rows(learned.table, [dataclasses.replace(learned.rows[0], **fields), *learned.rows[1:]])
    with pytest.raises(InputError, match=rf"^cannot read {learned.table}: .*{reason}"):
        _ = FitRun.load(tmp_path)[0]


def test_what_is_missing_is_said_before_anything_is_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    needs = r"^fit_dataset: needs pyarrow; install it with: pip install 'fractalops\[parquet\]'$"
    with pytest.raises(MissingExtra, match=needs):
        run(tmp_path / "run", table="parquet")
    with pytest.raises(ValueError, match=r"^fit_dataset: table must be one of csv, parquet, got 'xlsx'$"):
        run(tmp_path / "run", table="xlsx")
    assert not (tmp_path / "run").exists()
