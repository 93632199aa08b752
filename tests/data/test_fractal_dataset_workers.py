"""Tests that items of the data set are bit-identical for any threads, workers and start method of processes."""

from __future__ import annotations

import multiprocessing
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from fractalops import IFS, FractalDataset, rbf_rasterize
from fractalops.backends import STATE
from fractalops.data.class_search import search_classes
from fractalops.data.fractal_dataset import RULES
from fractalops.systems import System
from tests.support.tolerances import assert_same_bits

Items = list[tuple[Tensor, int]]


pytestmark = pytest.mark.usefixtures("restored_threads")


def small(**changes: Any) -> FractalDataset:
    given = {"rendering": "color", "background": "random", "points": 500}
    return FractalDataset(3, 4, (16, 17), **given | changes)  # type: ignore[arg-type]


def loaded(data: FractalDataset, **changes: Any) -> Items:
    """Return all items in the order of a `DataLoader`, and check that two epochs are equal."""
    loader = DataLoader(data, 5, collate_fn=list, timeout=120 if changes.get("num_workers") else 0, **changes)
    first, second = ([item for batch in loader for item in batch] for _ in range(2))
    assert_same(second, first)
    return first


def assert_same(items: Items, expected: Items) -> None:
    assert [label for _, label in items] == [label for _, label in expected]
    for (image, _), (other, _) in zip(items, expected, strict=True):
        assert_same_bits(image, other)


@pytest.mark.parametrize("background", ["black", "random"])
@pytest.mark.parametrize("rendering", RULES["own"].renderings)
def test_threads_change_no_bit(rendering: Any, background: Any) -> None:
    data = FractalDataset(2, 2, (224, 225), rendering=rendering, background=background, points=20_000, density=0)
    torch.set_num_threads(1)
    expected = data.__getitems__([0, 3])
    torch.set_num_threads(2)
    assert_same(data.__getitems__([0, 3]), expected)


@pytest.fixture(scope="module")
def classes() -> list[System]:
    return search_classes(2, rate=0.05, size=64, points=2000)


@pytest.mark.parametrize(
    ("rules", "rendering"),
    [(rules, rendering) for rules, kind in RULES.items() if rules != "own" for rendering in kind.renderings],
)
def test_threads_change_no_bit_by_published_rules(classes: list[System], rules: Any, rendering: Any) -> None:
    data = FractalDataset(classes, None, (160, 161), rules=rules, rendering=rendering, points=10_000)
    items = [0, len(data) - 1]
    torch.set_num_threads(1)
    expected = data.__getitems__(items)
    torch.set_num_threads(2)
    assert_same(data.__getitems__(items), expected)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("background", ["black", "random"])
@pytest.mark.parametrize("rendering", RULES["own"].renderings)
@pytest.mark.parametrize(("size", "dtype"), [((300, 301), torch.float32), (224, torch.uint8)], ids=str)
def test_threads_change_neither_classes_nor_pictures(
    rendering: Any, background: Any, size: Any, dtype: torch.dtype, threads: int
) -> None:
    drawn = []
    for count in (1, threads):
        torch.set_num_threads(count)
        data = FractalDataset(2, 2, size, rendering=rendering, background=background, points=40_000, dtype=dtype)
        drawn.append([(data.matrix, 0), *data.__getitems__(range(4))])
    assert_same(drawn[1], drawn[0])


@pytest.mark.parametrize("rendering", RULES["own"].renderings)
def test_forked_workers_change_no_bit(rendering: Any) -> None:
    data = small(rendering=rendering)
    assert_same(loaded(data, num_workers=2), loaded(data, num_workers=0))


def test_workers_forked_after_a_draw_by_threads_draw_the_same() -> None:
    data = small()
    torch.set_num_threads(4)
    expected = data.__getitems__(range(len(data)))
    torch.ones(2**20).sum()  # uses several threads, which a forked process lacks
    rbf_rasterize(torch.rand(64, 20_000, 2), 64)
    assert STATE.used_threads()
    assert_same(loaded(data, num_workers=1, multiprocessing_context="fork"), expected)


def set_other_defaults(_: int) -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")


@pytest.mark.slow
@pytest.mark.parametrize("defaults", [None, set_other_defaults], ids=["", "other defaults"])
@pytest.mark.parametrize("persistent", [False, True], ids=["", "persistent"])
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(
    "context", [name for name in ("fork", "spawn", "forkserver") if name in multiprocessing.get_all_start_methods()]
)
def test_workers_change_no_bit(context: str, workers: int, persistent: bool, defaults: Any) -> None:
    data = small()
    worked = loaded(
        data,
        num_workers=workers,
        multiprocessing_context=context,
        persistent_workers=persistent,
        worker_init_fn=defaults,
    )
    assert_same(worked, loaded(data, num_workers=0))


def test_a_pickle_holds_each_system_once() -> None:
    data = FractalDataset(IFS(300, 4, generator=torch.Generator().manual_seed(0)), 1, 16, points=100)
    assert len(data.systems) == 300
    assert len(pickle.dumps(data)) < 10 * data.matrix.nbytes + 1000 * 300  # less than one stack per system
