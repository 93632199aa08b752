"""Tables of cases for the tests of the ops, awkward shapes first."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import torch

from fractalops.ops.svd_matrix import SingularValues
from tests.support.cases import (
    MODES,
    BalancedCase,
    ChainCase,
    CountCase,
    DrawCase,
    ErrorCase,
    MatrixCase,
    MeansCase,
    RasterCase,
)

# One small call of each kind.
CHAIN = ChainCase("small", batch=5, points=6, maps=3)
RASTER = RasterCase("small", batch=4, points=9, size=(9, 6), channels=3)
COUNT = CountCase("small", batch=4, points=20, size=(9, 6), sides=(3, 5))
MATRIX = MatrixCase("small", (4, 5))
ERROR = ErrorCase("small")
DIFFERENTIABLE = [CHAIN, RASTER, MATRIX, ERROR]
SMALL = [
    *DIFFERENTIABLE,
    RasterCase("no weight", batch=4),
    RasterCase("weight", batch=4, channels=0),
    ErrorCase("color", (3, 2, 3, 4, 5)),
    *(replace(COUNT, mode=mode) for mode in MODES),
    replace(COUNT, name="no patch", sides=None, mode="binary"),
    replace(COUNT, name="no patch", sides=None),
    DrawCase("small"),
    BalancedCase("small"),
    MeansCase("small"),
]

CHAIN_CASES = [
    ChainCase("one of everything", batch=1, points=1, maps=1),
    ChainCase("empty batch", batch=0),
    ChainCase("one point", batch=3, points=1),
    ChainCase("two points", batch=9, points=2, index_dtype=torch.int32),
    ChainCase("three points, 3d", batch=3, points=3, dimensions=3, index_dtype=torch.int64),
    ChainCase("one map", batch=9, points=63, maps=1),
    ChainCase("odd batch", batch=33, points=63, index_dtype=torch.int64),
    ChainCase("odd batch, 3d", batch=33, points=63, dimensions=3),
    ChainCase("long, one sequence", batch=1, points=300, index_dtype=torch.int32),
    ChainCase("long, 3d", batch=9, points=300, dimensions=3, index_dtype=torch.int32),
    ChainCase("256 maps", batch=3, points=300, maps=256),
    ChainCase("300 maps", batch=9, points=300, maps=300, index_dtype=torch.int32),
    ChainCase("300 maps, 3d", batch=3, points=63, maps=300, dimensions=3, index_dtype=torch.int64),
]

RASTER_CASES = [
    RasterCase("one pixel", batch=1, points=1, size=1),
    RasterCase("empty batch", batch=0, channels=3),
    RasterCase("empty batch, no weight", batch=0),
    RasterCase("one row", points=63, size=(1, 7), bandwidth=4.0),
    RasterCase("one column", points=63, size=(7, 1), channels=0),
    RasterCase("one point", points=1, size=32, bandwidth=0.25),
    RasterCase("two points, loose", batch=9, points=2, size=32, cutoff=1e-2, channels=1),
    RasterCase("three points, exact", points=3, size=(30, 17), cutoff=None, channels=5),
    RasterCase("published", batch=9, points=300, size=32),
    RasterCase("published, weighted", batch=9, points=300, size=32, channels=0),
    RasterCase("color", batch=33, points=63, size=(30, 17), channels=3),
    RasterCase("five channels, loose", points=63, size=(30, 17), bandwidth=4.0, cutoff=1e-2, channels=5),
    RasterCase("tall window", points=63, size=(30, 17), bandwidth=25.0, channels=1),
    RasterCase("window larger than image", batch=33, points=300, size=(1, 7), bandwidth=25.0, channels=3),
    RasterCase("sharp, loose", points=300, size=(63, 100), bandwidth=0.25, cutoff=1e-2),
    RasterCase("large", batch=1, points=300, size=(63, 100), channels=3),
    RasterCase("large, exact", batch=1, points=300, size=(63, 100), bandwidth=25.0, cutoff=None),
    RasterCase("one large image", batch=1, points=5000, size=(300, 200), channels=2),
]

COUNT_CASES = [
    replace(case, mode=mode)
    for mode in MODES
    for case in (
        CountCase("one pixel", batch=1, points=1, size=(1, 1)),
        CountCase("one pixel, patch", batch=1, points=300, size=(1, 1), sides=(15, 15)),
        CountCase("empty batch", batch=0),
        CountCase("empty batch, patch", batch=0, sides=(3, 3)),
        CountCase("one row", size=(1, 70), sides=(3, 3), shared=True),
        CountCase("one column", size=(70, 1), sides=(5, 1)),
        CountCase("three points", points=3, size=(17, 33)),
        CountCase("a whole run", points=64, size=(31, 32)),
        CountCase("runs and a rest", points=300, size=(31, 32)),
        CountCase("3 x 3", batch=9, points=300, size=(32, 32), sides=(3, 3)),
        CountCase("tall patch", size=(20, 65), sides=(7, 1), shared=True),
        CountCase("wide patch", size=(20, 65), sides=(1, 15)),
        CountCase("largest patch", points=300, size=(64, 40), sides=(15, 15)),
        CountCase("patch of one pixel", size=(9, 33), sides=(1, 1)),
    )
]

MATRIX_CASES = [
    MatrixCase(f"{shape}, {kind}", shape, kind)
    for kind in get_args(SingularValues)
    for shape in [(), (0,), (1,), (3,), (2, 63), (300,), (3000,)]
]
ERROR_CASES = [
    ErrorCase(str(shape), shape)
    for shape in [
        *[(0, 3, 4, 5), (1, 1, 1, 1), (2, 3, 1, 3), (3, 2, 7, 9), (2, 5, 4, 4), (4, 50, 32, 32)],
        *[(0, 3, 3, 4, 5), (1, 1, 1, 1, 1), (2, 3, 3, 1, 3), (3, 2, 5, 7, 9), (2, 50, 3, 32, 32)],
    ]
]

# Finite differences take one call for each input entry, so gradcheck gets only small shapes.
CHAIN_GRADCHECK_CASES = [
    ChainCase("one of everything", batch=1, points=1, maps=1),
    ChainCase("one point", batch=9, points=1, maps=3, index_dtype=torch.int32),
    ChainCase("odd", batch=9, points=7, maps=3),
    ChainCase("odd, 3d", batch=5, points=7, maps=3, dimensions=3, index_dtype=torch.int64),
    ChainCase("empty batch", batch=0, maps=2),
]
RASTER_GRADCHECK_CASES = [
    RasterCase("one pixel", batch=1, points=1, size=1),
    RasterCase("no weight", batch=2, points=5, size=(6, 4)),
    RasterCase("weight", batch=2, points=5, size=(4, 6), channels=0, cutoff=1e-2),
    RasterCase("color, loose", batch=2, points=5, size=(5, 4), bandwidth=0.25, channels=2, cutoff=1e-2),
    RasterCase("color, exact", batch=2, points=5, size=(4, 5), bandwidth=4.0, channels=2, cutoff=None),
    RasterCase("wide", points=3, size=(1, 7), bandwidth=25.0, channels=1),
    RasterCase("empty batch", batch=0, channels=3),
]
