"""The options for converting a picture to a target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fractalops._checks import check_bool, check_choice, check_count, check_number


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """Options for converting a picture to a target. `read_image` describes the order of the steps.

    Args:
        size (int): Longest side of the target in pixels, at least 1. A larger picture is scaled down to it; a smaller
            one keeps its size. Default: 256.
        background (str): Color behind transparent parts, "black" or "white". Default: "black".
        invert (bool): Whether dark and bright are swapped. Use it for dark shapes on a bright background, as fractals
            are drawn bright on black. Default: False.
        threshold (float, optional): Number in [0, 1). Values above it become 1 and the others 0, in each channel
            separately. None sets no threshold. Default: None.
        color (bool): Whether red, green and blue are kept: (3, H, W). Otherwise the picture is converted to gray
            (H, W) by ITU-R 601 luma. Default: False.
        fit_to (int, optional): Longest side in pixels, at least 1, that every picture is scaled to, small ones too. It
            replaces `size`. Default: None.
        stretch (bool): Whether the values are scaled so that the lowest becomes 0 and the highest 1, in color over all
            channels together. Default: False.
        frame (int, optional): Frame of an animation, or page of a file of several pages, counted from 1. None selects
            the first. Default: None.

    Raises:
        TypeError: If an option has a wrong type.
        ValueError: If an option is out of its range.

    Examples:
        >>> from fractalops.io import PictureOptions
        >>> PictureOptions(size=64).scaled(480, 640)
        (48, 64)
    """

    size: int = 256
    background: Literal["black", "white"] = "black"
    invert: bool = False
    threshold: float | None = None
    color: bool = False
    fit_to: int | None = None
    stretch: bool = False
    frame: int | None = None

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
            height: Height of the picture in pixels.
            width: Width of the picture in pixels.

        Returns:
            The height and the width of the target in pixels.
        """
        longest = max(height, width)
        side = min(longest, self.size) if self.fit_to is None else self.fit_to
        if side == longest:
            return height, width
        return max(1, round(height * side / longest)), max(1, round(width * side / longest))
