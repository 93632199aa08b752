"""Bars on standard error that show how far a run is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm


def progress_bar(total: int, unit: str, description: str, *, shown: bool, **options: Any) -> tqdm[Any]:
    """Return a bar of `total` units, which does nothing unless it is `shown`; `options` are those of `tqdm`."""
    from tqdm import tqdm  # not with the package, whose import it would slow down

    return tqdm(total=total, unit=unit, desc=description, disable=not shown, **options)
