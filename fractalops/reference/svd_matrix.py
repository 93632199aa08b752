"""Matrices of maps from their SVD parameters (paper section 4.4, equation 10)."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from fractalops.reference.unit_interval import limit_to_unit


class _Tables(NamedTuple):
    """Constant matrices that reduce `svd_matrix` to a few products. Six rows are for theta, phi, s1, s2, d1, d2.

    With `R(theta) diag(1, -1) R(phi) = diag(1, -1) R(phi - theta)`, mean `a = (s1 + s2) / 2` and half
    difference `b = (s1 - s2) / 2`, the unsigned matrix is `a R(theta + phi) + b diag(1, -1) R(phi - theta)`:
    four waves `a cos(theta + phi), b cos(theta - phi), a sin(theta + phi), b sin(theta - phi)`, added and
    subtracted.
    """

    quarter_turn: Tensor  # (4,): turns the first two sines into cosines
    angles: Tensor  # (6, 4)
    amplitudes: Tensor  # (6, 4)
    entries: Tensor  # (4, 4): from the waves to A00, A01, A10, A11
    latents: Tensor  # (6, 4): the latent sign of each entry's column
    one: Tensor  # ()


def _constant(*rows: object) -> Tensor:
    # float64 for all dtypes of the parameters: autocast and TF32 would round the angles, but ignore float64.
    return torch.tensor(rows, dtype=torch.float64, device="cpu")


_NONE = [0.0, 0.0, 0.0, 0.0]
_CPU_TABLES = _Tables(
    quarter_turn=_constant(math.pi / 2, math.pi / 2, 0, 0),
    angles=_constant([1, 1, 1, 1], [1, -1, 1, -1], _NONE, _NONE, _NONE, _NONE),
    amplitudes=_constant(_NONE, _NONE, [0.5] * 4, [0.5, -0.5, 0.5, -0.5], _NONE, _NONE),
    entries=_constant([1, 0, 0, 1], [1, 0, 0, -1], [0, -1, 1, 0], [0, 1, 1, 0]),
    latents=_constant(_NONE, _NONE, _NONE, _NONE, [1, 0, 1, 0], [0, 1, 0, 1]),
    one=_constant(1)[0],
)


@functools.cache
def _tables_on(device: torch.device) -> _Tables:
    return _Tables(*(table.to(device) for table in _CPU_TABLES))


def svd_matrix(svd: Tensor, clamped: bool) -> Tensor:
    """Return `R(theta) diag(s1, s2) R(phi) diag(d1, d2)`: svd (M, 6) = theta, phi, s1, s2, d1, d2 -> (M, 2, 2).

    s is the parameter, clamped to [0, 1], or its sigmoid. d is the sign of its parameter (the latent), with the
    straight-through gradient. Any floating dtype; computed in float64 and rounded once. A parameter that is not finite
    affects only its own map.
    """
    tables = _CPU_TABLES if svd.device.type == "cpu" else _tables_on(svd.device)
    flat = svd.double()  # (M, 6)
    squashed = limit_to_unit(flat) if clamped else flat.sigmoid()
    amplitudes = squashed.mm(tables.amplitudes)  # (M, 4)
    waves = torch.addmm(tables.quarter_turn, flat, tables.angles).sin() * amplitudes  # (M, 4)
    latent = flat.mm(tables.latents)  # (M, 4)
    held = latent.detach()
    sign = torch.copysign(tables.one, held) + (latent - held)  # (M, 4): its gradient is that of the latent
    return (waves.mm(tables.entries) * sign).to(svd.dtype).view(-1, 2, 2)
