"""The examples in the docstrings of the public ops print what they show."""

from __future__ import annotations

from collections.abc import Callable
from doctest import DocTestFinder, DocTestRunner

import pytest

import fractalops
from fractalops.ops.svd_matrix import svd_matrix


@pytest.mark.parametrize(
    "op", [fractalops.affine_chain, fractalops.rbf_rasterize, fractalops.rasterize_points, svd_matrix]
)
def test_an_example_prints_what_it_shows(op: Callable[..., object]) -> None:
    (example,) = DocTestFinder(recurse=False).find(op, op.__name__, globs={})
    results = DocTestRunner().run(example)
    assert results.attempted > 0
    assert results.failed == 0
