"""The kernels of one optimization step of `fit` on a GPU, by the published settings.

The chain and the rasterizer are counted by their sources. Everything else (matrices, sampling, the error, clipping,
Adam) works on a few hundred numbers or on the images once: a launch each, whose own time is left out. How many they are
is counted in a step that runs here, on the CPU, as it would on a GPU.
"""

from __future__ import annotations

import warnings
from typing import Any
from unittest import mock

from torch.utils._python_dispatch import TorchDispatchMode

import fractalops
from fractalops import backends
from fractalops.fitting.learning import Group, learn

from . import affine_chain_work, rbf_rasterize_work
from .cards import Card, Kernel
from .cuda_plan import Plan
from .subjects import targets

MODELED = ("fractalops.affine_chain", "fractalops.rbf_rasterize")
WITHOUT_KERNEL = ("aten._unsafe_view", "aten.empty", "aten.new_empty")  # beside the views that say so


class Launches(TorchDispatchMode):
    """Counts operations that need a kernel of their own, but for those of `MODELED`."""

    count: int = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        results = function._schema.returns
        is_view = any(result.alias_info is not None and not result.alias_info.is_write for result in results)
        self.count += not is_view and not str(function).startswith(MODELED + WITHOUT_KERNEL)
        return function(*arguments, **(keywords or {}))


def other_launches(native: bool) -> int:
    """Of a step, beside the chain's and the rasterizer's; the small ops native, as on the CPU, or by PyTorch."""
    config = fractalops.FitConfig.paper()
    group = Group.start(targets(1), config, range(1))
    ops = backends.OPS if native else tuple(op for op in backends.OPS if op not in backends.CPU_ONLY)
    chosen = mock.patch.multiple(backends, LIBRARY_OPS={"cpu": ops}, _forced=None, _warned=set())
    with chosen, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the reference stands in, as is wanted here
        steps = learn(group, config, None, None, False)
        next(steps)  # the first step also makes what later ones find
        launches = Launches()
        with launches:
            next(steps)
    return launches.count


def step_kernels(card: Card, others: int) -> list[Kernel]:
    """Of a step on the card, with so many other launches."""
    chain = affine_chain_work.Work(affine_chain_work.SHAPES[0], Plan())
    raster = rbf_rasterize_work.Work(rbf_rasterize_work.SHAPES[0], card.capability)
    return [
        *chain.kernels("forward"),
        *raster.forward(),
        *raster.backward(),
        *chain.kernels("backward"),
        Kernel("the rest of the step", launches=others),
    ]
