"""Drawing sequences in which maps, and runs of maps, occur about as often as is expected of them."""

from __future__ import annotations

import torch
from torch import Tensor

from fractalops.reference.probabilities import floored_shares

UNIT = 2**20  # in which probabilities are counted
_MOST_COUNTS = 2**20  # of one context length, so that the memory of a sequence is bounded


def context_lengths(maps: int, points: int) -> range:
    """Return how many previous maps the next one depends on: lengths 1 to D, two points for each context.

    D is the largest with 2 N^D <= T and N^(D + 1) <= 2^20; none where there is no such D, or one map only.
    """
    longest = 0
    while maps > 1 and 2 * maps ** (longest + 1) <= points and maps ** (longest + 2) <= _MOST_COUNTS:
        longest += 1
    return range(1, longest + 1)


def draw_balanced_index(weight: Tensor, uniform: Tensor, floor: float) -> Tensor:
    """Return weight (S, N) in float64, uniform (S, K, T) in [0, 1) -> (S, K, T) in [0, N).

    A context is what the last d maps were, d = 1 to D of `context_lengths`; before the first point they all were map 0,
    from whose fixed point the chain starts. With c the times that a context has been met and c_n the times that map n
    followed, it owes map n `c p_n - c_n`. The next map is drawn with probabilities in proportion to `p_n` plus what the
    present contexts of all lengths owe map n, or 0 where that is negative. So after each context each map follows as
    often as expected, to within about one, like in a rotor walk (Holroyd and Propp 2010), and the tiles of the
    attractor that stand for runs of D + 1 maps get about as many points as expected. A context that is met a few times
    only can't be that fair: it prefers maps that have not followed yet. So in short sequences maps of small probability
    come somewhat too often: with N = 10 and T = 300 up to 4 points of T p, where independent draws deviate by 8.

    p are the probabilities of `raise_to_floor`, rounded to multiples of 2^-20: all sums are of integers, and exact.
    uint8 when N <= 256, else int32. It never waits for a GPU.
    """
    systems, sequences, points = uniform.shape
    maps = weight.shape[1]
    rows = systems * sequences  # R
    sums = floored_shares(weight, floor).cumsum(1)  # (S, N)
    bounds = (sums / sums[:, -1:] * UNIT).round().long()  # (S, N)
    share = bounds.diff(dim=1, prepend=bounds.new_zeros(systems, 1)).repeat_interleave(sequences, 0)  # (R, N)
    owed = [share.new_zeros(rows, maps**length, maps) for length in context_lengths(maps, points)]  # each (R, N^d, N)
    context = [share.new_zeros(rows) for _ in owed]  # each (R,)
    row = torch.arange(rows, device=weight.device)  # (R,)
    uniform = uniform.reshape(rows, points).double()  # (R, T)
    index = uniform.new_empty(rows, points, dtype=torch.uint8 if maps <= 256 else torch.int32)
    for t in range(points):
        due = share.clone()  # (R, N)
        for table, place in zip(owed, context, strict=True):
            due += table[row, place]
        reached = due.clamp(min=0).cumsum(1)  # (R, N)
        total = reached[:, -1]  # (R,): at least UNIT, as what a context owes adds up to 0
        target = torch.minimum((uniform[:, t] * total).long(), total - 1)  # (R,)
        drawn = (reached <= target[:, None]).sum(1)  # (R,)
        for length, (table, place) in enumerate(zip(owed, context, strict=True), 1):
            table[row, place] += share
            table[row, place, drawn] -= UNIT
            place.copy_((place * maps + drawn) % maps**length)
        index[:, t] = drawn
    return index.view(systems, sequences, points)
