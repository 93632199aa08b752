"""Points of an attractor within a window of any depth: through the words of maps whose images meet the window.

The attractor is the union of the images of itself under all words of maps. A word's image lies in a disc, whose center
is the image of the center of a disc around the attractor and whose radius is the word's norm times that disc's. The
tree of words is descended from the empty word: words whose disc misses the window are dropped, those much smaller than
the window are kept. A point of the attractor, taken through a word that is drawn by its probability, is a point of the
attractor in or near the window.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fractalops.errors import InputError
from fractalops.sampling import mean_point

_FINEST = 1 / 16  # of the window's shorter side: the radius of a word that is not taken apart any more
_MOST_WORDS = 2**15  # that are taken apart at once: a chance sample of them where there are more
_MOST_KEPT = 2**18
_MOST_CHILDREN = 2**19  # held at once
_MOST_LEVELS = 1000  # words that are still large then are drawn through as they are: rightly, if wastefully
_DISC_WORDS = 4096  # by which the disc around the attractor is made smaller


class Words(NamedTuple):
    """Compositions of maps, each the affine map `v -> matrix v + offset`, in float64."""

    matrix: Tensor  # (W, 2, 2)
    offset: Tensor  # (W, 2)
    probability: Tensor  # (W,), the share of the attractor's points that a word holds
    last: Tensor  # (W,), int64: the map that is applied last; -1 of the empty word

    def pick(self, chosen: Tensor) -> Words:
        """The chosen words."""
        return Words(*(part[chosen] for part in self))


class Disc(NamedTuple):
    """A disc of the plane."""

    center: Tensor  # (2,)
    radius: Tensor  # ()


@torch.no_grad()
def words_in_window(
    matrix: Tensor,
    offset: Tensor,
    probabilities: Tensor,
    low: Tensor,
    high: Tensor,
    generator: torch.Generator | None = None,
) -> Words:
    """Return the words through which the attractor's points in a window are drawn.

    Args:
        matrix: (N, 2, 2), the maps' linear parts.
        offset: (N, 2), their translations.
        probabilities: (N,), how often each map is drawn; their sum is 1.
        low: (2,), the window's least coordinates; float64.
        high: (2,), its largest ones.
        generator: draws the words that are kept where there are too many. Each then stands for several, so that the
            points are spread as without a limit.

    Returns:
        Words (W), of which the probabilities sum up to about the window's share of the attractor's points. W is 0 where
        no part of the attractor is near the window.

    Raises:
        InputError: unless all maps contract.
    """
    maps = Words(matrix.double(), offset.double(), probabilities.double(), torch.arange(len(matrix)).to(matrix.device))
    disc = bounding_disc(maps)
    finest = _FINEST * (high - low).amin()
    kept, active = _none(maps), _near(_empty_word(maps), disc, low, high)
    for _ in range(_MOST_LEVELS):
        small = _norm(active.matrix) * disc.radius <= finest  # (W,)
        kept = _thinned(_joined([kept, active.pick(small)]), _MOST_KEPT, generator)
        active = _thinned(active.pick(~small), _MOST_WORDS, generator)
        if len(active.last) == 0:
            break
        pieces = torch.arange(len(active.last), device=matrix.device).split(max(1, _MOST_CHILDREN // len(matrix)))
        active = _joined([_near(_children(active.pick(piece), maps), disc, low, high) for piece in pieces])
    return _joined([kept, active])


def through_words(words: Words, points: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Take points (P, 2) of the attractor through words, each word as often as its probability says.

    Returns:
        The points (P, 2), of their dtype, word after word; and the last maps (P,), -1 of the empty word.
    """
    count = _even_counts(words.probability, len(points), generator)  # (W,)
    table = torch.cat((words.matrix.flatten(1), words.offset), 1).to(points.dtype)  # (W, 6)
    a00, a01, a10, a11, b0, b1 = table.repeat_interleave(count, 0, output_size=len(points)).unbind(1)  # each (P,)
    x, y = points.unbind(1)
    moved = torch.stack((a00 * x + a01 * y + b0, a10 * x + a11 * y + b1), 1)
    return moved, words.last.repeat_interleave(count, output_size=len(points))


def bounding_disc(maps: Words) -> Disc:
    """Return a disc around the attractor of maps. Raises `InputError` for a map that doesn't contract."""
    norm = _norm(maps.matrix)  # (N,)
    if not bool((norm < 1).all()):
        worst = int((norm < 1).logical_not().nonzero()[0])
        raise InputError(f"deep zoom: the maps must contract, got a norm of {float(norm[worst]):.4g} for map {worst}")
    center = mean_point(maps.matrix, maps.offset, maps.probability / maps.probability.sum())  # (2,)
    # No map leads out of a disc of this radius.
    radius = ((_image(maps, center) - center).norm(dim=1) / (1 - norm)).amax()
    # All discs of the words of one length hold the attractor, too; longer words make a smaller disc around them.
    words = maps
    while len(maps.last) > 1 and len(words.last) * len(maps.last) <= _DISC_WORDS:
        words = _children(words, maps)
    reach = (_image(words, center) - center).norm(dim=1) + _norm(words.matrix) * radius  # (W,)
    return Disc(center, torch.minimum(radius, reach.amax()))


def _norm(matrix: Tensor) -> Tensor:
    """The largest singular values (W,) of matrices (W, 2, 2)."""
    a00, a01, a10, a11 = matrix.flatten(1).unbind(1)
    return (torch.hypot(a00 + a11, a10 - a01) + torch.hypot(a00 - a11, a10 + a01)) / 2


def _image(words: Words, point: Tensor) -> Tensor:
    """The images (W, 2) of one point (2,)."""
    return words.matrix @ point + words.offset


def _empty_word(maps: Words) -> Words:
    matrix = torch.eye(2).to(maps.matrix)[None]
    return Words(matrix, maps.offset.new_zeros(1, 2), maps.probability.new_ones(1), maps.last.new_full((1,), -1))


def _none(maps: Words) -> Words:
    return Words(*(part[:0] for part in maps))


def _joined(words: list[Words]) -> Words:
    return Words(*(torch.cat(parts) for parts in zip(*words, strict=True)))


def _children(words: Words, maps: Words) -> Words:
    """All words (W * N) that apply one more map, before the others."""
    matrix = words.matrix[:, None] @ maps.matrix  # (W, N, 2, 2)
    offset = (words.matrix[:, None] @ maps.offset[..., None])[..., 0] + words.offset[:, None]  # (W, N, 2)
    probability = words.probability[:, None] * maps.probability  # (W, N)
    last = torch.where(words.last[:, None] < 0, maps.last, words.last[:, None])  # (W, N)
    return Words(matrix.flatten(0, 1), offset.flatten(0, 1), probability.flatten(), last.flatten())


def _near(words: Words, disc: Disc, low: Tensor, high: Tensor) -> Words:
    """The words whose discs meet the window, and that are drawn at all."""
    center = _image(words, disc.center)  # (W, 2)
    distance = (center - center.clamp(low, high)).norm(dim=1)  # (W,)
    return words.pick((distance <= _norm(words.matrix) * disc.radius) & (words.probability > 0))


def _thinned(words: Words, most: int, generator: torch.Generator | None) -> Words:
    """At most so many words, drawn by their probabilities; each stands for as many as it was drawn for."""
    if len(words.last) <= most:
        return words
    count = _even_counts(words.probability, most, generator)  # (W,)
    each = words.probability.sum() / most
    return words._replace(probability=count * each).pick(count > 0)


def _even_counts(probability: Tensor, number: int, generator: torch.Generator | None) -> Tensor:
    """How often each of W outcomes comes in `number` draws that are spread evenly: (W,), int64, of that sum."""
    edges = probability.cumsum(0)  # (W,)
    edges = edges / edges[-1] * number
    device = probability.device if generator is None else generator.device
    edges = (edges + torch.rand((), generator=generator, dtype=torch.float64, device=device).to(edges)).floor().long()
    edges[-1] = number
    return edges.diff(prepend=edges.new_zeros(1))
