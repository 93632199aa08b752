"""Read and write the palettes of flames: 256 colors. A transform selects its color by an index in [0, 1]."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fractalops.errors import InputError
from fractalops.io.files import one_line

_COLORS = 256
_HEX_DIGITS = {"RGB": 6, "RGBA": 8}
_LINE = 8  # colors in a line of text
_MOST_DIGITS = 2**13  # characters of a palette, including white space


class PaletteReader:
    """A reader of the colors of a flame, from its elements `color`, `colors` and `palette`.

    Its methods raise `InputError` if the palette is damaged.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[float, float, float]] = {}  # in [0, 255]
        self._where = ""
        self._pending: tuple[int, int] | None = None  # while the text of a palette is read: colors, digits per color
        self._text = ""

    def begin(self, tag: str, attributes: dict[str, str], where: str) -> None:
        """Process the start of an element. `where` is the first part of error messages."""
        self._where = where
        try:
            if tag == "color":
                self._add_color(attributes)
            elif tag == "colors":
                self._add_digits(attributes["data"], int(attributes["count"]), 8, skip=2)
            elif "count" in attributes:
                self._pending = int(attributes["count"]), _HEX_DIGITS[attributes.get("format", "RGB")]
        except (LookupError, ValueError, OverflowError) as error:
            raise self._error(error) from None

    def add(self, text: str) -> None:
        """Process a part of the text of an element."""
        if self._pending is not None:
            self._text += text
            if len(self._text) > _MOST_DIGITS:
                raise InputError(f"{self._where}: the palette must have at most {_MOST_DIGITS} characters, got more")

    def end(self) -> None:
        """Process the end of an element."""
        if self._pending is None:
            return
        count, digits = self._pending
        text, self._text, self._pending = self._text, "", None
        try:
            self._add_digits(text, count, digits)
        except ValueError as error:
            raise self._error(error) from None

    def colors(self) -> Tensor | None:
        """Return the palette (256, 3) in [0, 1], or None if there is none. Gaps are interpolated, as in flam3.

        The result is also None if all 256 colors are white, as `write_flames` writes this palette for a system without
        colors.
        """
        if not self._known:
            return None
        index = sorted(self._known)
        known = np.array([self._known[each] for each in index])  # (K, 3)
        if len(index) == _COLORS and (known == 255).all():
            return None
        filled = [np.interp(np.arange(_COLORS), index, channel, period=_COLORS) for channel in known.T]
        return torch.from_numpy(np.stack(filled, 1)) / 255

    def _add_color(self, attributes: dict[str, str]) -> None:
        index = int(attributes["index"])
        numbers = [float(word) for word in attributes.get("rgb", attributes.get("rgba", "")).split()]
        if not 0 <= index < _COLORS or len(numbers) not in (3, 4) or not all(0 <= each <= 255 for each in numbers):
            raise ValueError(f"invalid color: index {index}, values {numbers[:4]}")
        red, green, blue = numbers[:3]
        self._known[index] = red, green, blue

    def _add_digits(self, text: str, count: int, digits: int, skip: int = 0) -> None:
        text = "".join(text.split())
        if not 0 < count <= _COLORS or len(text) != count * digits:
            raise ValueError(f"expected {count} colors of {digits} digits, got {len(text)} digits")
        content = np.frombuffer(bytes.fromhex(text), dtype=np.uint8).reshape(count, -1)[:, skip // 2 :]
        self._known |= {number: (float(r), float(g), float(b)) for number, (r, g, b) in enumerate(content[:, :3])}

    def _error(self, error: Exception) -> InputError:
        return InputError(f"{self._where}: the palette is damaged ({one_line(error)})")


def index_colors(color: Tensor | None, maps: int) -> tuple[Tensor, Tensor]:
    """Return a palette (256, 3) of whole numbers in [0, 255], and the indices (N,) in [0, 1] of N colors in it.

    `color` is (N, 1), (N, 3) or None. Each color fills a range of the palette, and its index is the middle of that
    range: so programs that round or interpolate find it, too. More than 256 colors are reduced to 256. Without colors
    the palette is white.
    """
    if color is None:
        white = torch.full((_COLORS, 3), 255, dtype=torch.int64, device="cpu")
        return white, torch.zeros(maps, dtype=torch.float64, device="cpu")
    colors = (color.double().clamp(0, 1) * 255).round().expand(-1, 3).numpy().astype(np.uint8)  # (N, 3)
    distinct, which = np.unique(colors, axis=0, return_inverse=True)  # (K, 3), (N,)
    which = which.reshape(-1)
    if len(distinct) > _COLORS:
        from PIL import Image  # imported here, as it takes longer than the rest of the package

        image = Image.fromarray(distinct[None]).quantize(_COLORS, kmeans=1)
        table = np.array(image.getpalette(), dtype=np.uint8).reshape(-1, 3)
        distinct, again = np.unique(table[np.asarray(image)[0]], axis=0, return_inverse=True)
        which = again.reshape(-1)[which]
    edges = np.arange(len(distinct) + 1) * _COLORS // len(distinct)  # where the range of each color starts
    middle = (edges[:-1] + edges[1:] - 1) // 2
    palette = distinct.repeat(np.diff(edges), axis=0)  # (256, 3)
    return torch.from_numpy(palette.astype(np.int64)), torch.from_numpy((middle[which] + 0.5) / _COLORS)


def palette_text(palette: Tensor) -> str:
    """Return the hexadecimal digits of a palette (256, 3)."""
    digits = [bytes(each).hex().upper() for each in palette.tolist()]
    lines = ["".join(digits[first : first + _LINE]) for first in range(0, len(digits), _LINE)]
    return "\n".join(["", *lines, ""])
