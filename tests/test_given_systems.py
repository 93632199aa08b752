"""Tests of given systems: `IFS.from_maps`, fixed probabilities, and the starts of chains."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fractalops.ifs import IFS
from fractalops.sampling import chain_start, determinant_probabilities, sample_attractor, sample_index, spectral_radius
from fractalops.systems import System
from tests.support.cases import seeded

FERN = np.array(  # Barnsley 1988: a b c d e f p
    [
        [0, 0, 0, 0.16, 0, 0, 0.01],
        [0.85, 0.04, -0.04, 0.85, 0, 1.6, 0.85],
        [0.2, -0.26, 0.23, 0.22, 0, 1.6, 0.07],
        [-0.15, 0.28, 0.26, 0.24, 0, 0.44, 0.07],
    ]
)
MATRIX, OFFSET, PROBABILITIES = FERN[:, :4].reshape(-1, 2, 2), FERN[:, 4:6], FERN[:, 6]
COLOR = np.array([[1.0, 0.0, 0.25], [0.0, 1.0, 0.5], [0.1, 0.2, 0.3], [1.0, 1.0, 0.0]])


def fern(**settings: Any) -> IFS:
    return IFS.from_maps(MATRIX, OFFSET, PROBABILITIES, COLOR, **settings)


def colorless() -> System:
    return IFS.from_maps(MATRIX, OFFSET, PROBABILITIES).system()


def turn(degrees: float) -> Tensor:
    angle = math.radians(degrees)
    return torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)


def test_what_is_given_is_held() -> None:
    system = fern().system()
    np.testing.assert_array_equal(system.matrix, MATRIX)
    np.testing.assert_array_equal(system.offset, OFFSET)
    np.testing.assert_allclose(system.probabilities, PROBABILITIES, rtol=1e-15)
    assert system.color is not None
    np.testing.assert_array_equal(system.color, COLOR)  # including 0 and 1


@pytest.mark.parametrize(
    "form",
    [lambda value: value, torch.as_tensor, lambda value: value.tolist(), lambda value: list(map(np.asarray, value))],
)
@pytest.mark.parametrize("several", [False, True])
def test_forms_of_what_is_given(form: Any, several: bool) -> None:
    arguments = [form(np.stack([part, part]) if several else part) for part in (MATRIX, OFFSET, PROBABILITIES, COLOR)]
    given = IFS.from_maps(*arguments)
    assert (given.systems, given.maps_per_system, given.channels) == (2 if several else 1, 4, 3)
    for name, tensor in fern().state_dict().items():
        assert torch.equal(given.state_dict()[name][-1], tensor[0])
        assert tensor.dtype == torch.float64


def test_float32_stays_float32() -> None:
    maps = torch.as_tensor(MATRIX).float(), torch.as_tensor(OFFSET).float()
    assert IFS.from_maps(*maps).offset.dtype == torch.float32
    assert IFS.from_maps(*maps, dtype=torch.float64).offset.dtype == torch.float64


def test_kinds_of_numbers_may_differ() -> None:
    given = IFS.from_maps(torch.eye(2)[None] / 2, [[1, 2]], [3])
    assert given.offset.tolist() == [[[1.0, 2.0]]]
    assert given.offset.dtype == torch.float64


def test_without_probabilities_they_follow_the_determinants() -> None:
    given = IFS.from_maps(MATRIX, OFFSET)
    expected = determinant_probabilities(torch.as_tensor(MATRIX)[None])
    torch.testing.assert_close(given.probabilities(), expected, rtol=1e-15, atol=0)
    torch.testing.assert_close(
        given.probabilities(), IFS.from_maps(MATRIX, OFFSET, expected[0]).probabilities(), rtol=1e-15, atol=0
    )


def test_systems_of_different_numbers_of_maps() -> None:
    one = System(turn(30)[None] * 0.5, torch.ones(1, 2, dtype=torch.float64), torch.ones(1))
    several = IFS.from_systems([colorless(), one])
    assert several.maps_per_system == 4
    assert several.probabilities()[1].tolist() == [1, 0, 0, 0]
    index = several.sample(3, 1000, generator=seeded(0))
    assert (index[1] == 0).all()
    padded = several.system(1)
    assert torch.equal(padded.matrix[0], one.matrix[0])
    assert not padded.matrix[1:].any()
    alone = fern(viewport=(-3, -1, 3, 11))
    points = several.points(index[:, :1])[0]
    torch.testing.assert_close(points, alone.points(index[:1, :1])[0], rtol=0, atol=0)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_and_pickles(copied: Any) -> None:
    given = fern(blend="mean", sampling="balanced")
    other = copied(given)
    assert repr(other) == repr(given)
    drawn = [module((9, 14), points=200, generator=seeded(3)) for module in (given, other)]
    assert torch.equal(*drawn)
    assert drawn[0].shape == (1, 1, 3, 9, 14)


def test_state_dict_round_trip() -> None:
    given = fern()
    other = IFS.from_maps(MATRIX * 0, OFFSET * 0, PROBABILITIES[::-1].copy(), COLOR * 0)
    other.load_state_dict(given.state_dict())
    for name, tensor in given.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)
    with pytest.raises(RuntimeError, match="probability"):
        IFS(1, 4, parametrization="matrix", channels=3).load_state_dict(given.state_dict())


def test_making_one_draws_no_random_numbers() -> None:
    before = torch.get_rng_state()
    fern()
    assert torch.equal(torch.get_rng_state(), before)


def test_colors_that_are_values_have_gradients() -> None:
    given = fern()
    given(8, points=100, generator=seeded(0)).sum().backward()
    assert given.color is not None
    assert given.color.grad is not None
    assert bool((given.color.grad != 0).all(dim=2)[0, 1:3].all())


def test_the_default_viewport_shows_the_whole_attractor() -> None:
    image = fern()(33, points=20_000, generator=seeded(0))[0, 0].amax(0)  # (33, 33)
    lit = image > 0.01
    assert lit.any(1).all() or lit.any(0).all()  # spans the longer axis


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((MATRIX, OFFSET, PROBABILITIES * 0), r"probabilities must be finite, non-negative and not all zero, got \[0"),
        ((MATRIX, OFFSET, -PROBABILITIES), "probabilities must be finite, non-negative"),
        ((MATRIX, OFFSET, PROBABILITIES[:3]), r"probabilities must have shape \(4,\), got \(3,\)"),
        ((MATRIX[:, 0], OFFSET), r"matrix must have 3 dimensions or one more, got shape \(4, 2\)"),
        ((MATRIX, OFFSET[:3]), r"matrix must have shape \(3, 2, 2\), got \(4, 2, 2\)"),
        (([MATRIX, MATRIX], [OFFSET]), "all arguments must have 2 systems, like matrix, got 1"),
        ((MATRIX * math.nan, OFFSET), "matrix of the system must be finite"),
        ((MATRIX, OFFSET, None, COLOR + 0.5), r"color must lie in \[0, 1\], got values from 0.5 to 1.5"),
        ((np.eye(3)[None], np.zeros((1, 3))), r"matrix of the system must have shape \(N, 2, 2\), got \(1, 3, 3\)"),
        (([[[1, 0], [0]]], [[0, 0]]), r"matrix must have rows of equal length, got \[\[\[1, 0\], \[0\]\]\]"),
        ((MATRIX, [[0, 0], [0, 0, 0]]), "offset must have rows of equal length"),
        (([torch.eye(2), torch.eye(3)], [[0, 0], [0, 0]]), "matrix must have rows of equal length"),
        (([MATRIX], [OFFSET], [[[1.0], [2.0, 3.0]]]), "probabilities must "),
        (([], []), "matrix must be a tensor, an array or a sequence of them, got list"),
    ],
    ids=lambda value: str(value)[-30:],
)
def test_what_cannot_be_given(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=rf"^IFS\.from_maps: {message}"):
        IFS.from_maps(*arguments)


@pytest.mark.parametrize("name", ["parametrization", "channels", "color_values", "systems", "maps"])
def test_settings_that_follow_from_the_systems_are_refused(name: str) -> None:
    message = rf"^IFS\.from_maps: {name} must be left out, because it follows from the systems"
    with pytest.raises(TypeError, match=message):
        fern(**{name: None})
    settings: dict[str, Any] = {name: None}
    if name != "systems":  # an argument of `from_systems`
        with pytest.raises(TypeError, match=rf"^IFS\.from_systems: {name} must be left out"):
            IFS.from_systems([colorless()], **settings)


def test_systems_of_unlike_colors_are_refused() -> None:
    systems = [fern().system(), colorless()]
    with pytest.raises(ValueError, match="systems must all have the same number of color channels, got 3, None"):
        IFS.from_systems(systems)
    with pytest.raises(ValueError, match="systems must have at least one system"):
        IFS.from_systems([])


# Drawing


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("zeros", [[0], [3], [0, 3], [1, 2]])
def test_a_map_of_probability_0_is_never_drawn(zeros: list[int], balanced: bool) -> None:
    probabilities = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    probabilities[0, zeros] = 0
    index = sample_index(probabilities, 300, 3000, seeded(0), balanced=balanced)
    counts = torch.bincount(index.flatten().int(), minlength=4)
    assert (counts[zeros] == 0).all()
    shares = counts / counts.sum()
    torch.testing.assert_close(shares, probabilities[0] / probabilities.sum(), rtol=0, atol=3e-3)


@pytest.mark.parametrize("balanced", [False, True])
def test_rounded_probabilities_of_257_maps(balanced: bool) -> None:
    probabilities = torch.full((1, 257), 1 / 257)
    probabilities[0, 100] *= 1 - 1e-4
    index = sample_index(probabilities, 10, 30_000, seeded(0), balanced=balanced)
    assert int(index.max()) == 256
    assert (torch.bincount(index.flatten().int(), minlength=257) > 0).all()


def test_probabilities_that_add_up_to_less_than_1() -> None:
    probabilities = torch.tensor([0.5, 0.3, 0.2 - 1.2e-7])
    assert float(probabilities.sum()) == pytest.approx(0.99999988, abs=1e-9)
    given = IFS.from_maps(torch.eye(2).expand(3, 2, 2) / 2, torch.eye(3)[:, :2], probabilities)
    assert float(given.probabilities().sum()) == pytest.approx(1, abs=1e-15)
    assert int(given.sample(1, 100_000, generator=seeded(0)).max()) == 2


def test_probabilities_whose_sum_overflows() -> None:
    probabilities = np.array([[1e308, 1e308, 0], [1e308, 5e307, 1e308], [1, 3, 0], [5e-324, 5e-324, 5e-324]])
    given = IFS.from_maps(np.tile(np.eye(2) / 2, (4, 3, 1, 1)), np.zeros((4, 3, 2)), probabilities)
    expected = torch.tensor([[1 / 2, 1 / 2, 0], [2 / 5, 1 / 5, 2 / 5], [1 / 4, 3 / 4, 0], [1 / 3, 1 / 3, 1 / 3]])
    torch.testing.assert_close(given.probabilities(), expected.double(), rtol=1e-7, atol=0)


def test_an_isometry_stays_put() -> None:
    """It is drawn more often than the contraction, but no point leaves the disc that both maps preserve."""
    matrix = torch.stack((turn(77), 0.5 * turn(-20))).float()
    offset = torch.tensor([[0.0, 0.0], [1.0, 0.5]])
    given = IFS.from_maps(matrix, offset, [0.58, 0.42])
    radius = math.hypot(1, 0.5) / (1 - 0.5)
    index = given.sample(1, 10_000_000, generator=seeded(1))
    points = given.points(index)
    assert points.isfinite().all()
    assert float(points.norm(dim=-1).amax()) <= radius * (1 + 1e-5)


@pytest.mark.parametrize("sequences", [1, pytest.param(100, marks=pytest.mark.slow)])
def test_long_balanced_sequences_give_the_same_picture(sequences: int) -> None:
    """Compare cells of the fern at 10^7 points by chi-square, with the variances between runs of 10^4 points."""
    counts = []  # each (1000, 256): runs, cells
    for number, sampling in enumerate(("independent", "balanced")):
        given = fern(dtype=torch.float32, sampling=sampling)
        index = given.sample(sequences, 10_000_000 // sequences, generator=seeded(number))
        points = given.points(index).view(1000, 10_000, 2)
        low, high = points.new_tensor([-2.2, 0.0]), points.new_tensor([2.7, 10.0])
        cell = ((points - low) / (high - low) * 16).long().clamp(0, 15)
        place = cell[..., 0] * 16 + cell[..., 1] + 256 * torch.arange(1000)[:, None]
        counts.append(torch.bincount(place.flatten(), minlength=256_000).view(1000, 256).double())
    used = torch.stack(counts).sum(1).amin(0) > 1000  # (256,)
    means = [each[:, used].mean(0) for each in counts]
    variance = sum(each[:, used].var(0) / 1000 for each in counts)
    chi_square = float(((means[0] - means[1]).square() / variance).sum())
    cells = int(used.sum())
    assert cells > 100
    assert abs(chi_square - cells) < 5 * math.sqrt(2 * cells)


# Where chains start


def system_of(*maps: tuple[Tensor, list[float]]) -> tuple[Tensor, Tensor]:
    return torch.stack([matrix for matrix, _ in maps])[None], torch.tensor([[offset for _, offset in maps]]).double()


HALF, EXPANDING, EYE = 0.5 * turn(10), 1.5 * turn(10), turn(0)


@pytest.mark.parametrize(
    ("maps", "probabilities", "chosen"),
    [
        ([HALF, HALF], [0.5, 0.5], 0),
        ([HALF, HALF], [0.0, 0.5], 1),
        ([EXPANDING, HALF], [0.1, 0.9], 1),
        ([turn(50), EXPANDING, HALF], [0.3, 0.3, 0.3], 2),
        ([EYE, HALF * 0], [0.3, 0.3], 1),
        ([turn(50).float().double(), HALF], [0.3, 0.3], 1),
    ],
)
def test_chains_start_at_the_first_map_that_is_drawn_and_contracts(
    maps: list[Tensor], probabilities: list[float], chosen: int
) -> None:
    matrix, offset = system_of(*((each, [1.0, -2.0 + number]) for number, each in enumerate(maps)))
    start = chain_start(matrix, offset, torch.tensor([probabilities]))
    expected = torch.linalg.solve(torch.eye(2).double() - matrix[0, chosen], offset[0, chosen])
    torch.testing.assert_close(start[0], expected)
    torch.testing.assert_close(IFS.from_maps(matrix, offset, [probabilities]).start(), start)
    image = IFS.from_maps(matrix, offset, [probabilities])(16, points=50, generator=seeded(0))
    assert image.isfinite().all()


def test_a_system_beside_others_starts_as_it_does_alone() -> None:
    matrix = torch.stack((HALF, EXPANDING, turn(5), EYE))[:, None].repeat(1, 2, 1, 1)
    matrix[1, 1] = HALF
    offset = torch.randn(4, 2, 2, generator=seeded(0)).double()
    probabilities = torch.tensor([0.2, 0.8]).expand(4, 2)
    together = chain_start(matrix, offset, probabilities)
    assert together.isfinite().all()
    for number in range(4):
        alone = chain_start(*(part[number : number + 1] for part in (matrix, offset, probabilities)))
        torch.testing.assert_close(together[number], alone[0])


def test_without_a_map_that_contracts_chains_start_at_the_mean() -> None:
    matrix, offset = system_of((turn(90), [1.0, 0.0]), (turn(-90), [0.0, 1.0]))
    start = chain_start(matrix, offset, torch.tensor([[2.0, 2.0]]))
    mean = (matrix.mean(1), offset.mean(1))
    torch.testing.assert_close(start[0], mean[0][0] @ start[0] + mean[1][0])


@pytest.mark.parametrize("dimensions", [2, 3])
def test_isometries_give_no_nan(dimensions: int) -> None:
    """A translation has no fixed point."""
    matrix = torch.eye(dimensions).expand(1, 1, dimensions, dimensions)
    offset = torch.ones(1, 1, dimensions)
    sample = sample_attractor(matrix, offset, torch.ones(1, 1), 30, sequences=1, burn_in=0)
    torch.testing.assert_close(sample.points[0, 0, -1], torch.full((dimensions,), 31.0))
    both = torch.cat((matrix, 0.5 * matrix), 1), torch.cat((offset, offset), 1)
    points = sample_attractor(*both, torch.tensor([[0.3, 0.7]]), 1000, generator=seeded(0)).points
    assert points.isfinite().all()


@pytest.mark.parametrize("dimensions", [2, 3])
def test_spectral_radius_is_that_of_the_eigenvalues(dimensions: int) -> None:
    matrix = torch.randn(300, dimensions, dimensions, generator=seeded(5))
    expected = torch.linalg.eigvals(matrix.double()).abs().amax(-1)
    torch.testing.assert_close(spectral_radius(matrix), expected, rtol=1e-6, atol=1e-9)


def test_where_map_0_contracts_the_bits_are_those_of_its_fixed_point() -> None:
    from fractalops.ops.fixed_point import fixed_point

    matrix = 0.4 * torch.randn(50, 3, 2, 2, generator=seeded(2))
    matrix[:, 0] = 0.6 * matrix[:, 0] / torch.linalg.matrix_norm(matrix[:, 0], 2)[:, None, None]
    offset = torch.randn(50, 3, 2, generator=seeded(3))
    start = chain_start(matrix, offset, torch.ones(50, 3))
    assert torch.equal(start, fixed_point(matrix[:, 0], offset[:, 0]))
    matrix[7, 0] *= 10  # changes only system 7
    rest = torch.arange(50) != 7
    assert torch.equal(chain_start(matrix, offset, torch.ones(50, 3))[rest], start[rest])
