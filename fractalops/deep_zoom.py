"""Points of an attractor in a small window of the plane, for zooms of any depth.

A word is a composition of maps. The attractor is the union of its own images under all words of one length. Each image
is inside an ellipse, the image of a disc around the attractor. The search descends the tree of words from the empty
word. It drops words whose ellipse doesn't intersect the window, and stops at words much smaller than the window. To
draw a point in or near the window, draw a word by its probability and apply it to a point of the attractor.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fractalops.errors import InputError
from fractalops.sampling import mean_point

_FINEST = 1 / 8  # words of at most this radius, relative to the window's shorter side, are not split further
_MOST_WORDS = 2**14  # words that one level splits; a random sample if there are more
_MOST_KEPT = 2**17  # words that are returned
_MOST_CHILDREN = 2**19  # words in memory at a time
_MOST_LEVELS = 1000  # words that are still large after these levels are kept: correct, but many points miss the window
_DISC_WORDS = 1024  # words that are split in each step that shrinks the disc around the attractor
_DISC_STEPS = 16


class Words(NamedTuple):
    """W words, each an affine map `v -> matrix v + offset`, in float64."""

    matrix: Tensor  # (W, 2, 2)
    offset: Tensor  # (W, 2)
    probability: Tensor  # (W,), the share of the attractor's points in the word's image
    last: Tensor  # (W,), int64: index of the map that is applied last; -1 for the empty word

    def pick(self, chosen: Tensor) -> Words:
        """Return the words at the indices, or under the mask, `chosen`."""
        return Words(*(part[chosen] for part in self))


class Disc(NamedTuple):
    """A disc in the plane."""

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
    """Return the words whose images cover the part of an attractor in a window.

    Args:
        matrix: linear parts of the maps; shape (N, 2, 2).
        offset: translations of the maps; shape (N, 2).
        probabilities: probabilities of the maps; shape (N,), sum 1.
        low: smallest coordinates of the window; shape (2,), float64.
        high: largest coordinates of the window; shape (2,), float64.
        generator: draws a sample of the words if there are too many. Each word of the sample gets a larger probability,
            so that points have the same distribution as without the limit.

    Returns:
        W words. Their probabilities sum to about the share of the attractor's points in the window. W is 0 if no part
        of the attractor is near the window.

    Raises:
        InputError: If a map doesn't contract.
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
        # The approximate share of a word's points in the window. Without this factor large words would displace small
        # words in the window.
        inside = (side / (2 * radii)).clamp(max=1).prod(1)  # (W,)
        active = _thinned(active.pick(~small), (active.probability * inside)[~small], _MOST_WORDS, generator)
        if len(active.last) == 0:
            break
        pieces = torch.arange(len(active.last), device=matrix.device).split(max(1, _MOST_CHILDREN // len(matrix)))
        active = _joined([_near(_children(active.pick(piece), maps), disc, low, high) for piece in pieces])
    words = _joined([*kept, active])
    return _thinned(words, words.probability, _MOST_KEPT, generator)


def through_words(words: Words, points: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Apply words, drawn by their probabilities, to points of the attractor.

    Args:
        words: W words, with probabilities of any sum.
        points: points of the attractor; shape (P, 2).
        generator: draws the words.

    Returns:
        The images of the points, shape (P, 2), in the dtype of `points`, ordered by word; and the map that was applied
        last to each, shape (P,), int64, -1 for the empty word.
    """
    count = _even_counts(words.probability, len(points), generator)  # (W,)
    word = torch.arange(len(count), device=count.device).repeat_interleave(count, output_size=len(points))  # (P,)
    x, y = points.unbind(1)

    def coordinate(row: int) -> Tensor:
        a, b = words.matrix[:, row].to(points.dtype).unbind(1)
        return a[word] * x + b[word] * y + words.offset[:, row].to(points.dtype)[word]

    return torch.stack((coordinate(0), coordinate(1)), 1), words.last[word]


def bounding_disc(maps: Words) -> Disc:
    """Return a disc that contains the attractor of `maps`; raise `InputError` if a map doesn't contract."""
    norm = _singular_values(maps.matrix)[:, 0]  # (N,)
    if not bool((norm < 1).all()):
        worst = int((norm < 1).logical_not().nonzero()[0])
        raise InputError(f"deep zoom: the maps must contract, got a norm of {float(norm[worst]):.4g} for map {worst}")
    center = mean_point(maps.matrix, maps.offset, maps.probability / maps.probability.sum())  # (2,)
    # Each map takes the disc of this radius into itself.
    radius = ((_image(maps, center) - center).norm(dim=1) / (1 - norm)).amax()
    # The images of the disc under these words cover the attractor. Longer words have smaller images and give a smaller
    # disc.
    words = maps
    for _ in range(_DISC_STEPS):
        reach = (_image(words, center) - center).norm(dim=1) + _singular_values(words.matrix)[:, 0] * radius  # (W,)
        radius = torch.minimum(radius, reach.amax())
        order = reach.argsort(descending=True)
        count = max(1, _DISC_WORDS // len(maps.last))
        words = _joined([_children(words.pick(order[:count]), maps), words.pick(order[count:])])
    return Disc(center, radius)


def _singular_values(matrix: Tensor) -> Tensor:
    """Return the singular values (W, 2) of matrices (W, 2, 2), the larger one first."""
    a00, a01, a10, a11 = matrix.flatten(1).unbind(1)
    p, q = torch.hypot(a00 + a11, a10 - a01) / 2, torch.hypot(a00 - a11, a10 + a01) / 2
    return torch.stack((p + q, (p - q).abs()), 1)


def _image(words: Words, point: Tensor) -> Tensor:
    """Return the images (W, 2) of one point (2,) under each word."""
    return words.matrix @ point + words.offset


def _empty_word(maps: Words) -> Words:
    matrix = torch.eye(2, dtype=maps.matrix.dtype, device=maps.matrix.device)[None]
    return Words(matrix, maps.offset.new_zeros(1, 2), maps.probability.new_ones(1), maps.last.new_full((1,), -1))


def _joined(words: list[Words]) -> Words:
    return Words(*(torch.cat(parts) for parts in zip(*words, strict=True)))


def _children(words: Words, maps: Words) -> Words:
    """Return the W * N words that apply one more map before each word's maps."""
    matrix = words.matrix[:, None] @ maps.matrix  # (W, N, 2, 2)
    offset = (words.matrix[:, None] @ maps.offset[..., None])[..., 0] + words.offset[:, None]  # (W, N, 2)
    probability = words.probability[:, None] * maps.probability  # (W, N)
    last = torch.where(words.last[:, None] < 0, maps.last, words.last[:, None])  # (W, N)
    return Words(matrix.flatten(0, 1), offset.flatten(0, 1), probability.flatten(), last.flatten())


def _near(words: Words, disc: Disc, low: Tensor, high: Tensor) -> Words:
    """Return the words of nonzero probability whose ellipse intersects the window, or nearly does."""
    middle, half = (low + high) / 2, (high - low) / 2  # (2,), (2,)
    # The test of the bounding boxes is cheaper than the test along each ellipse's axes, so it comes first.
    distance = (_image(words, disc.center) - middle).abs()  # (W, 2)
    meets = distance <= half + disc.radius * words.matrix.norm(dim=2)
    words = words.pick(meets.all(1) & (words.probability > 0))
    gram = words.matrix @ words.matrix.mT  # (W, 2, 2)
    angle = torch.atan2(2 * gram[:, 0, 1], gram[:, 0, 0] - gram[:, 1, 1]) / 2  # (W,), direction of the longer axis
    axis = torch.stack((angle.cos(), angle.sin(), -angle.sin(), angle.cos()), 1).view(-1, 2, 2)  # (W, 2, 2)
    distance = (axis @ (_image(words, disc.center) - middle)[..., None])[..., 0].abs()  # (W, 2)
    meets = distance <= axis.abs() @ half + disc.radius * _singular_values(words.matrix)
    return words.pick(meets.all(1))


def _thinned(words: Words, importance: Tensor, most: int, generator: torch.Generator | None) -> Words:
    """Return at most `most` words, drawn by their importance (W,).

    The probabilities of the drawn words grow such that their expected values stay the same.
    """
    if len(words.last) <= most:
        return words
    share = importance / importance.sum() * most  # (W,), the expected number of draws of each word
    count = _even_counts(importance, most, generator)  # (W,)
    drawn = count > 0
    return words._replace(probability=words.probability * count / share).pick(drawn)


def _even_counts(probability: Tensor, number: int, generator: torch.Generator | None) -> Tensor:
    """Return how often each of W outcomes occurs in `number` draws by systematic sampling: (W,), int64."""
    edges = probability.cumsum(0)  # (W,)
    edges = edges / edges[-1] * number
    device = probability.device if generator is None else generator.device
    edges = (edges + torch.rand((), generator=generator, dtype=torch.float64, device=device).to(edges)).floor().long()
    edges[-1] = number
    return edges.diff(prepend=edges.new_zeros(1))
