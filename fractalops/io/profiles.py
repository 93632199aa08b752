"""Convert pixels from an embedded ICC color profile to sRGB, the color space of screens."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy
from PIL import Image, ImageCms

_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}  # ICC color spaces by Pillow's modes
_UNSEEN = 2  # levels of 255: the rounding error of a profile that is sRGB under another name


@lru_cache(maxsize=16)
def to_srgb(profile: bytes, mode: str) -> tuple[ImageCms.ImageCmsTransform | None, str]:
    """Return the transform from an ICC profile to sRGB for pictures of mode L, RGB or CMYK, and a notice.

    For sRGB itself the result is (None, ""). For a profile that can't be used the transform is None, and the notice
    says why. Black point compensation is used, as in Photoshop and browsers.
    """
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != _SPACES[mode]:
            return None, "the color profile is for another color space and is ignored"
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        name = " ".join(ImageCms.getProfileDescription(source).split())[:60] or "its profile"
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None, "the color profile is damaged and is ignored"
    return (None, "") if _changes_nothing(transform, mode) else (transform, f"colors are converted from {name} to sRGB")


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Return whether a transform keeps a grid of colors, or all grays, unchanged up to rounding."""
    if mode == "CMYK":
        return False
    steps = numpy.arange(0, 256, 1 if mode == "L" else 15, dtype=numpy.uint8)
    grid = numpy.stack(numpy.meshgrid(*[steps] * len(mode), indexing="ij"), axis=-1)  # (n, 1) or (n, n, n, 3)
    colors = grid.reshape(-1, 1) if mode == "L" else grid.reshape(len(steps), -1, 3)
    after = numpy.asarray(ImageCms.applyTransform(Image.fromarray(colors), transform)).astype(int)  # (..., 3)
    return int(numpy.abs(after - colors.reshape(*colors.shape[:2], -1)).max()) <= _UNSEEN
