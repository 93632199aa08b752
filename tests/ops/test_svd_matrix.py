"""Tests of `svd_matrix` alone. Others: test_every_op.py, test_op_errors.py. Its formula: test_ifs.py."""

from __future__ import annotations

import pytest
import torch
from torch.utils._pytree import tree_leaves

from fractalops.ops.svd_matrix import svd_matrix
from tests.support.case_tables import MATRIX
from tests.support.cases import MatrixCase

pytestmark = pytest.mark.usefixtures("poisoned_memory")


@pytest.mark.parametrize("latent", [0.0, -0.0, 1e-300, -1e-300])
@pytest.mark.parametrize("value", [-1.0, -0.0, 0.0, 0.25, 1.0, 2.0, 800.0, -800.0])
def test_native_matches_the_reference_at_the_borders(latent: float, value: float, native: str) -> None:
    svd = torch.tensor([[0.3, -2.0, value, 0.5, latent, 1.0]], dtype=torch.float64)
    for singular_values in ("sigmoid", "clamp"):
        case = MatrixCase("border", (1,), singular_values)
        for actual, expected in zip(
            tree_leaves(case.both(native, (svd,))), tree_leaves(case.expected((svd,))), strict=True
        ):
            torch.testing.assert_close(actual, expected, rtol=0.0, atol=1e-14)


def test_other_float_dtypes_take_the_reference() -> None:
    (svd,) = MATRIX.inputs()
    torch.testing.assert_close(svd_matrix(svd.bfloat16()), svd_matrix(svd.bfloat16().double()).bfloat16())
