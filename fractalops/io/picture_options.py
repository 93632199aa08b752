"""Options for turning a picture into a target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fractalops._checks import check_bool, check_choice, check_count, check_number


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """Options for turning a picture into a target; the steps are taken in the order of `read_image`.

    Raises `TypeError` or `ValueError` for an option of a wrong type or out of its range.
    """

    size: int = 256
    """The longest side in pixels that a picture is scaled down to; one that is smaller stays as it is."""
    background: Literal["black", "white"] = "black"
    """The color that transparent parts are laid over."""
    invert: bool = False
    """Swap dark and bright: a fractal is drawn bright on black."""
    threshold: float | None = None
    """In [0, 1): pixels above it become 1 and the others 0, channel by channel."""
    color: bool = False
    """Keep red, green and blue (3, H, W); otherwise the picture becomes gray (H, W), by the luma of ITU-R 601."""
    fit_to: int | None = None
    """The longest side in pixels that every picture is scaled to, small ones up; it takes the place of `size`."""
    stretch: bool = False
    """Make the lowest value of a picture 0 and its highest 1, in color those of all channels together."""
    frame: int | None = None
    """The frame of an animation or of a file of several pages, counted from 1; None takes the first."""

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
        """Return height and width of the target of a picture of this height and width."""
        longest = max(height, width)
        side = min(longest, self.size) if self.fit_to is None else self.fit_to
        if side == longest:
            return height, width
        return max(1, round(height * side / longest)), max(1, round(width * side / longest))
