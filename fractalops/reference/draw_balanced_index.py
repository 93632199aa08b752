"""Drawing of index sequences in which maps and runs of maps occur about as often as expected."""

from __future__ import annotations

import torch
from torch import Tensor

from fractalops.reference.probabilities import floored_shares

UNIT = 2**20  # probabilities are rounded to multiples of 1 / UNIT
_MOST_COUNTS = 2**20  # limit for one context length, which bounds the memory of a sequence


def context_lengths(maps: int, points: int) -> range:
    """Return the context lengths: the numbers 1 to D of previous maps on which the next map depends.

    D is the largest number with 2 N^D <= T, which gives two points for each context, and N^(D + 1) <= 2^20. The range
    is empty if there is no such D or only one map.
    """
    longest = 0
    while maps > 1 and 2 * maps ** (longest + 1) <= points and maps ** (longest + 2) <= _MOST_COUNTS:
        longest += 1
    return range(1, longest + 1)


def draw_balanced_index(weight: Tensor, uniform: Tensor, floor: float) -> Tensor:
    """Draw balanced sequences: weight (S, N) in float64, uniform (S, K, T) in [0, 1) -> index (S, K, T) in [0, N).

    A context of length d is the sequence of the last d maps. The lengths are 1 to D (`context_lengths`). Before the
    first point, all maps of a context are map 0, because the chain starts at the fixed point of map 0.

    Let c be the number of times that a context has occurred, and c_n the number of times that map n followed it. The
    deficit of map n after this context is `c p_n - c_n`. The next map is drawn with probabilities proportional to `p_n`
    plus the deficits of map n after the current contexts of all lengths, or 0 if this sum is negative.

    As a result, each map follows each context as often as expected, to within about one, as in a rotor walk (Holroyd
    and Propp 2010). The tiles of the attractor for runs of D + 1 maps get about as many points as expected.

    A context that occurs only a few times prefers maps that have not followed it yet. In short sequences, maps of small
    probability therefore occur slightly too often. With N = 10 and T = 300, their numbers of points deviate from T p by
    up to 4; those of independent draws deviate by 8.

    p are the probabilities of `raise_to_floor`, rounded to multiples of 2^-20, so that all sums are exact sums of
    integers. The index is uint8 if N <= 256, else int32. The function never waits for a GPU.
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
        total = reached[:, -1]  # (R,): at least UNIT, because the deficits after a context add up to 0
        target = torch.minimum((uniform[:, t] * total).long(), total - 1)  # (R,)
        drawn = (reached <= target[:, None]).sum(1)  # (R,)
        for length, (table, place) in enumerate(zip(owed, context, strict=True), 1):
            table[row, place] += share
            table[row, place, drawn] -= UNIT
            place.copy_((place * maps + drawn) % maps**length)
        index[:, t] = drawn
    return index.view(systems, sequences, points)
