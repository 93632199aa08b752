"""Optimization steps of `fit` for many pictures as one op, without PyTorch operations in between."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fractalops.ops._define import trace


def _fake(targets: Tensor, rows: Tensor, first: Tensor, *settings: Any) -> Tensor:
    rates = settings[3]
    return targets.new_empty(rates.shape[0], targets.shape[0])


trace("learn_steps", _fake)

run_learn_steps = torch.ops.fractalops.learn_steps
