"""Points of an attractor within a window of any depth: through the words of maps whose images meet the window.

The attractor is the union of the images of itself under all words of maps. The image under a word lies in an ellipse:
the image of a disc around the attractor. The tree of words is descended from the empty word: words whose ellipse misses
the window are dropped, those much smaller than the window are kept. A point of the attractor, taken through a word that
is drawn by its probability, is a point of the attractor in or near the window.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fractalops.errors import InputError
from fractalops.sampling import mean_point

_FINEST = 1 / 8  # of the window's shorter side: the radius of a word that is not taken apart any more
_MOST_WORDS = 2**14  # that are taken apart at once: a chance sample of them where there are more
_MOST_KEPT = 2**17
_MOST_CHILDREN = 2**19  # held at once
_MOST_LEVELS = 1000  # words that are still large then are drawn through as they are: rightly, if wastefully
_DISC_WORDS = 1024  # that are taken apart in each step that makes the disc around the attractor smaller
_DISC_STEPS = 16


class Words(NamedTuple):
    """Compositions of maps, each the affine map `v -> matrix v + offset`, in float64."""

    matrix: Tensor  # (W, 2, 2)
    offset: Tensor  # (W, 2)
    probability: Tensor  # (W,), the share of the attractor's points that a word holds
    last: Tensor  # (W,), int64: the map that is applied last; -1 of the empty word

    def pick(self, chosen: Tensor) -> Words:
        """Return the chosen words."""
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
    numbers = torch.arange(len(matrix), device=matrix.device)  # (N,)
    maps = Words(matrix.double(), offset.double(), probabilities.double(), numbers)
    disc = bounding_disc(maps)
    side = (high - low).amin()
    kept, active = [], _near(_empty_word(maps), disc, low, high)
    for _ in range(_MOST_LEVELS):
        radii = disc.radius * _singular_values(active.matrix)  # (W, 2), of the ellipses
        small = radii[:, 0] <= _FINEST * side  # (W,)
        kept.append(active.pick(small))
        # About what share of a word's points lies in the window: large words are not to drive out small ones in it.
        inside = (side / (2 * radii)).clamp(max=1).prod(1)  # (W,)
        active = _thinned(active.pick(~small), (active.probability * inside)[~small], _MOST_WORDS, generator)
        if len(active.last) == 0:
            break
        pieces = torch.arange(len(active.last), device=matrix.device).split(max(1, _MOST_CHILDREN // len(matrix)))
        active = _joined([_near(_children(active.pick(piece), maps), disc, low, high) for piece in pieces])
    words = _joined([*kept, active])
    return _thinned(words, words.probability, _MOST_KEPT, generator)


def through_words(words: Words, points: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Take points (P, 2) of the attractor through words, each word as often as its probability says.

    Returns:
        The points (P, 2), of their dtype, word after word; and the last maps (P,), -1 of the empty word.
    """
    count = _even_counts(words.probability, len(points), generator)  # (W,)
    word = torch.arange(len(count), device=count.device).repeat_interleave(count, output_size=len(points))  # (P,)
    x, y = points.unbind(1)

    def coordinate(row: int) -> Tensor:
        a, b = words.matrix[:, row].to(points.dtype).unbind(1)
        return a[word] * x + b[word] * y + words.offset[:, row].to(points.dtype)[word]

    return torch.stack((coordinate(0), coordinate(1)), 1), words.last[word]


def bounding_disc(maps: Words) -> Disc:
    """Return a disc around the attractor of maps. Raises `InputError` for a map that doesn't contract."""
    norm = _singular_values(maps.matrix)[:, 0]  # (N,)
    if not bool((norm < 1).all()):
        worst = int((norm < 1).logical_not().nonzero()[0])
        raise InputError(f"deep zoom: the maps must contract, got a norm of {float(norm[worst]):.4g} for map {worst}")
    center = mean_point(maps.matrix, maps.offset, maps.probability / maps.probability.sum())  # (2,)
    # No map leads out of a disc of this radius.
    radius = ((_image(maps, center) - center).norm(dim=1) / (1 - norm)).amax()
    # The discs of words that no attractor's point is without hold it, too. Longer ones lead to a smaller disc.
    words = maps
    for _ in range(_DISC_STEPS):
        reach = (_image(words, center) - center).norm(dim=1) + _singular_values(words.matrix)[:, 0] * radius  # (W,)
        radius = torch.minimum(radius, reach.amax())
        order = reach.argsort(descending=True)
        count = max(1, _DISC_WORDS // len(maps.last))
        words = _joined([_children(words.pick(order[:count]), maps), words.pick(order[count:])])
    return Disc(center, radius)


def _singular_values(matrix: Tensor) -> Tensor:
    """Return the singular values (W, 2) of matrices (W, 2, 2), the larger first."""
    a00, a01, a10, a11 = matrix.flatten(1).unbind(1)
    p, q = torch.hypot(a00 + a11, a10 - a01) / 2, torch.hypot(a00 - a11, a10 + a01) / 2
    return torch.stack((p + q, (p - q).abs()), 1)


def _image(words: Words, point: Tensor) -> Tensor:
    """Return the images (W, 2) of one point (2,)."""
    return words.matrix @ point + words.offset


def _empty_word(maps: Words) -> Words:
    matrix = torch.eye(2, dtype=maps.matrix.dtype, device=maps.matrix.device)[None]
    return Words(matrix, maps.offset.new_zeros(1, 2), maps.probability.new_ones(1), maps.last.new_full((1,), -1))


def _joined(words: list[Words]) -> Words:
    return Words(*(torch.cat(parts) for parts in zip(*words, strict=True)))


def _children(words: Words, maps: Words) -> Words:
    """Return all words (W * N) that apply one more map, before the others."""
    matrix = words.matrix[:, None] @ maps.matrix  # (W, N, 2, 2)
    offset = (words.matrix[:, None] @ maps.offset[..., None])[..., 0] + words.offset[:, None]  # (W, N, 2)
    probability = words.probability[:, None] * maps.probability  # (W, N)
    last = torch.where(words.last[:, None] < 0, maps.last, words.last[:, None])  # (W, N)
    return Words(matrix.flatten(0, 1), offset.flatten(0, 1), probability.flatten(), last.flatten())


def _near(words: Words, disc: Disc, low: Tensor, high: Tensor) -> Words:
    """Return the words whose ellipses meet the window, or nearly do, and that are drawn at all."""
    middle, half = (low + high) / 2, (high - low) / 2  # (2,), (2,)
    # Whether their bounding boxes meet is found faster than whether they meet along the ellipses' own axes.
    distance = (_image(words, disc.center) - middle).abs()  # (W, 2)
    meets = distance <= half + disc.radius * words.matrix.norm(dim=2)
    words = words.pick(meets.all(1) & (words.probability > 0))
    gram = words.matrix @ words.matrix.mT  # (W, 2, 2)
    angle = torch.atan2(2 * gram[:, 0, 1], gram[:, 0, 0] - gram[:, 1, 1]) / 2  # (W,), of the longer axes
    axis = torch.stack((angle.cos(), angle.sin(), -angle.sin(), angle.cos()), 1).view(-1, 2, 2)  # (W, 2, 2)
    distance = (axis @ (_image(words, disc.center) - middle)[..., None])[..., 0].abs()  # (W, 2)
    meets = distance <= axis.abs() @ half + disc.radius * _singular_values(words.matrix)
    return words.pick(meets.all(1))


def _thinned(words: Words, importance: Tensor, most: int, generator: torch.Generator | None) -> Words:
    """Return at most `most` words, drawn by their importance (W,), with the probabilities of all that they replace."""
    if len(words.last) <= most:
        return words
    share = importance / importance.sum() * most  # (W,), how often each is drawn on average
    count = _even_counts(importance, most, generator)  # (W,)
    drawn = count > 0
    return words._replace(probability=words.probability * count / share).pick(drawn)


def _even_counts(probability: Tensor, number: int, generator: torch.Generator | None) -> Tensor:
    """Return how often each of W outcomes occurs in `number` evenly spread draws: (W,), int64, of that sum."""
    edges = probability.cumsum(0)  # (W,)
    edges = edges / edges[-1] * number
    device = probability.device if generator is None else generator.device
    edges = (edges + torch.rand((), generator=generator, dtype=torch.float64, device=device).to(edges)).floor().long()
    edges[-1] = number
    return edges.diff(prepend=edges.new_zeros(1))
