"""The options for converting a picture to a target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fractalops._checks import check_bool, check_choice, check_count, check_number


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """Options for converting a picture to a target. `read_image` describes the order of the steps.

    Raises:
        TypeError: if an option has a wrong type.
        ValueError: if an option is out of its range.

    Examples:
        >>> from fractalops.io import PictureOptions
        >>> PictureOptions(size=64).scaled(480, 640)
        (48, 64)
    """

    size: int = 256
    """The longest side in pixels. A larger picture is scaled down to it; a smaller one keeps its size."""
    background: Literal["black", "white"] = "black"
    """The color behind transparent parts."""
    invert: bool = False
    """Swap dark and bright. Use it for dark shapes on a bright background, as fractals are drawn bright on black."""
    threshold: float | None = None
    """A number in [0, 1). Values above it become 1 and the others 0, in each channel separately. None: no threshold."""
    color: bool = False
    """Keep red, green and blue (3, H, W). Otherwise the picture is converted to gray (H, W) by ITU-R 601 luma."""
    fit_to: int | None = None
    """The longest side in pixels that every picture is scaled to, small ones too. It replaces `size`."""
    stretch: bool = False
    """Scale the values so that the lowest becomes 0 and the highest 1, in color over all channels together."""
    frame: int | None = None
    """The frame of an animation, or the page of a file of several pages, counted from 1. None selects the first."""

    def __post_init__(self) -> None:
        check_count("PictureOptions", "size", self.size)
        check_count("PictureOptions", "fit_to", self.fit_to, optional=True)
        check_choice("PictureOptions", "background", self.background, ("black", "white"))
        check_bool("PictureOptions", "invert", self.invert)
        check_bool("PictureOptions", "color", self.color)
        check_bool("PictureOptions", "stretch", self.stretch)
        check_count("PictureOptions", "frame", self.frame, optional=True)
        check_number("PictureOptions", "threshold", self.threshold, least=0, below=1, optional=True)

    def scaled(self, height: int, width: int) -> tuple[int, int]:
        """Return the size of the target for a picture of the given size.

        Args:
            height: the height of the picture in pixels.
            width: the width of the picture in pixels.

        Returns:
            The height and the width of the target in pixels.
        """
        longest = max(height, width)
        side = min(longest, self.size) if self.fit_to is None else self.fit_to
        if side == longest:
            return height, width
        return max(1, round(height * side / longest)), max(1, round(width * side / longest))
