"""Small files of systems in common formats, and comparisons for their tests."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from fractalops import InputError
from fractalops.io import read_systems
from fractalops.systems import System


def assert_refused(path: Path, reason: str, *, whole: bool = False) -> None:
    """Assert that a file is refused with one line: the reason, or without `whole` its beginning."""
    with pytest.raises(InputError) as caught:
        read_systems(path)
    message, expected = str(caught.value), f"cannot read {path}: {reason}"
    assert "\n" not in message
    assert message == expected if whole else message.startswith(expected)


FERN_ROWS = (
    (0.0, 0.0, 0.0, 0.16, 0.0, 0.0, 0.01),
    (0.85, 0.04, -0.04, 0.85, 0.0, 1.6, 0.85),
    (0.2, -0.26, 0.23, 0.22, 0.0, 1.6, 0.07),
    (-0.15, 0.28, 0.26, 0.24, 0.0, 0.44, 0.07),
)
"""Barnsley's fern: a b c d e f p of x' = a x + b y + e, y' = c x + d y + f, with y upwards."""

IFS = """; a comment
fern { ; the fern
   0    0    0  .16   0 0    .01
 .85  .04 -.04  .85   0 1.6  .85
 .2  -.26  .23  .22   0 1.6  .07
-.15  .28  .26  .24   0 .44  .07
}
Halves{ .5 0 0 .5 0 0 .5
  0.5,0,0,5e-1,1,
  -1.0 5.0E-1 }
comment { anything ; { here
  1 2 x }
stem (3D) {
0 0 0 0 .18 0 0 0 0 0 0 0 .5
.85 .1 .2 -.3 .8 .4 .5 -.1 .7 1 1.6 -2 .5
}
"""
CSV = "".join(f"{','.join(f'{value:.18e}' for value in row)}\n" for row in FERN_ROWS)
CSV_3D = "0,0,0,0,.18,0,0,0,0,0,0,0,.5\n.85,.1,.2,-.3,.8,.4,.5,-.1,.7,1,1.6,-2,.5\n"
FLAME = """<?xml version="1.0"?>
<Flames name="two">
<flame name="a fern" size="640 480" center="0 -5" scale="48" background="0 0 0">
   <xform weight="0.1" color="0" linear="1" coefs="0 0 0 0.16 0 0"/>
   <xform weight="8.5" color="0.5" linear="0.5" coefs="1.7 0.08 -0.08 1.7 0 -3.2" opacity="1"/>
   <xform weight="0.7" color="1" linear="1" coefs="1 0 0 1 0 0" post="0.2 -0.23 0.26 0.22 0 -1.6" chaos="1 1 1"/>
   <palette count="256" format="RGB">
      PALETTE
   </palette>
</flame>
<flame name="old" palette="15">
   <xform weight="1" var1="0" color="0 0" symmetry="0" coefs="0.5 0 0 0.5 0 0"/>
   <xform weight="1" var="1 0 0" coefs="0.5 0 0 0.5 0.5 0"/>
   <edit by="someone"><sheep generation="1"/></edit>
</flame>
</Flames>
""".replace("PALETTE", "".join(f"{i:02X}{255 - i:02x}80" for i in range(256)))
JSON = """{"format": "fractalops.systems.1", "systems": [
  {"name": "pair", "matrix": [[[0.5, 0], [0, 0.5]], [[0.5, 0.1], [0, 0.5]]], "offset": [[0, 0], [1, 2]],
   "probabilities": [1, 3], "color": [[0, 0.5, 1], [1, 0, 0]]}]}
"""


def array_bytes(**arrays: np.ndarray) -> bytes:
    """Return the content of a .npz file."""
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def write(folder: Path, name: str, content: str | bytes) -> Path:
    """Write a file, with its line breaks unchanged."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def random_system(
    maps: int = 5,
    *,
    dimensions: int = 2,
    channels: int | None = None,
    dtype: torch.dtype = torch.float64,
    name: str = "",
    seed: int = 0,
) -> System:
    """Return a system of contractions. Its numbers use all digits; its colors have 8 bits."""
    generator = torch.Generator().manual_seed(seed)
    precise = torch.promote_types(dtype, torch.float32)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=precise)

    weight = normal(maps).exp()
    color = None
    if channels is not None:
        color = torch.randint(256, (maps, channels), generator=generator).to(dtype) / 255
    matrix = normal(maps, dimensions, dimensions)
    matrix = matrix / torch.linalg.matrix_norm(matrix, 2)[:, None, None] * 0.7
    parts = matrix, normal(maps, dimensions), weight / weight.sum()
    return System(*(part.to(dtype) for part in parts), color, name)


def assert_equal(actual: System, expected: System) -> None:
    """Assert that two systems have the same numbers, in any dtypes."""
    for part in ("matrix", "offset", "probabilities", "color"):
        one, other = getattr(actual, part), getattr(expected, part)
        if other is None:
            assert one is None, part
        else:
            assert torch.equal(one.double(), other.double()), part
