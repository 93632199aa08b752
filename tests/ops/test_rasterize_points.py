"""`fractalops.rasterize_points` on every backend: counts, ties, borders, patches, transformations, errors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

import fractalops
from fractalops import backends
from tests.support.tolerances import TOLERANCES, assert_same_bits

pytestmark = pytest.mark.usefixtures("poisoned_memory")

DTYPES = list(TOLERANCES)
MODES = {"binary": torch.uint8, "density": torch.int32}


@dataclass(frozen=True)
class Case:
    """Shapes of one call; the patch has these sides, and `shared` when it is one for all images."""

    name: str
    batch: int = 3
    points: int = 63
    size: tuple[int, int] = (9, 6)
    sides: tuple[int, int] | None = None
    shared: bool = False

    def inputs(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor | None]:
        """points (B, T, 2) on and around the image, half of them where rounding is a tie or nearly; the patch."""
        generator = torch.Generator().manual_seed(0)
        extent = torch.tensor(self.size, dtype=torch.float64)
        points = torch.rand(self.batch, self.points, 2, generator=generator, dtype=torch.float64)
        points = (points * (extent + 24) - 12).to(dtype)
        points[:, 1::4] = (points[:, 1::4] * 2).round() / 2
        tie = points[:, 3::4].floor() + 0.5
        points[:, 3::4] = torch.nextafter(tie, torch.full_like(tie, math.inf))
        if self.sides is None:
            return points, None
        shape = self.sides if self.shared else (self.batch, *self.sides)
        return points, torch.rand(shape, generator=generator) < 0.5


CASES = [
    Case("one pixel", batch=1, points=1, size=(1, 1)),
    Case("one pixel, patch", batch=1, points=300, size=(1, 1), sides=(15, 15)),
    Case("empty batch", batch=0),
    Case("empty batch, patch", batch=0, sides=(3, 3)),
    Case("one row", size=(1, 70), sides=(3, 3), shared=True),
    Case("one column", size=(70, 1), sides=(5, 1)),
    Case("three points", points=3, size=(17, 33)),
    Case("a whole run", points=64, size=(31, 32)),
    Case("runs and a rest", points=300, size=(31, 32)),
    Case("3 x 3", batch=9, points=300, size=(32, 32), sides=(3, 3)),
    Case("tall patch", size=(20, 65), sides=(7, 1), shared=True),
    Case("wide patch", size=(20, 65), sides=(1, 15)),
    Case("largest patch", points=300, size=(64, 40), sides=(15, 15)),
    Case("patch of one pixel", size=(9, 33), sides=(1, 1)),
]
SMALL = Case("small", batch=4, points=20, size=(9, 6), sides=(3, 5))


def by_loop(points: Tensor, size: tuple[int, int], patch: Tensor | None, mode: str) -> Tensor:
    """What the op promises, one stamp at a time; Python's `round` goes half to even too."""
    patch = torch.ones(1, 1, dtype=torch.bool) if patch is None else patch
    patches = patch.expand(len(points), *patch.shape[-2:])
    top, left = patch.shape[-2] // 2, patch.shape[-1] // 2
    images = torch.zeros(len(points), *size, dtype=torch.int32)
    for image, cloud, marks in zip(images, points, patches, strict=True):
        for x, y in cloud[cloud.isfinite().all(1)].tolist():
            for row, column in (marks.nonzero() + torch.tensor([round(x) - top, round(y) - left])).tolist():
                if 0 <= row < size[0] and 0 <= column < size[1]:
                    image[row, column] += 1
    return images.clamp(max=1).to(torch.uint8) if mode == "binary" else images


# Counts


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_counts_are_those_of_the_loop(case: Case, dtype: torch.dtype, mode: str, backend: str) -> None:
    points, patch = case.inputs(dtype)
    image = fractalops.rasterize_points(points, case.size, mode=mode, patch=patch, backend=backend)
    assert image.dtype == MODES[mode]
    assert_same_bits(image, by_loop(points, case.size, patch, mode))


def test_binary_is_the_default_and_x_runs_along_rows(backend: str) -> None:
    image = fractalops.rasterize_points(torch.tensor([[[2.0, 5.0], [2.0, 5.0]]]), (4, 7), backend=backend)
    assert image.nonzero().tolist() == [[0, 2, 5]]
    assert image.sum() == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_ties_go_to_the_even_pixel(dtype: torch.dtype, backend: str) -> None:
    x = torch.tensor([-0.5, 0.5, 1.5, 2.5, 3.5, 4.5, -0.75, 4.75], dtype=dtype)  # 4.75 and -0.75 are beside the image
    points = torch.stack([x, torch.zeros_like(x)], dim=-1)[None]
    image = fractalops.rasterize_points(points, (5, 1), mode="density", backend=backend)
    assert image.flatten().tolist() == [2, 0, 2, 0, 2]


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_far_end_of_the_largest_image(dtype: torch.dtype, backend: str) -> None:
    side = 2**22 - 1
    x = torch.tensor([side - 1.25, side - 1.5, side - 0.5, side + 6, side + 7, 2.0**23, 2.0**24], dtype=dtype)
    points = torch.stack([x, torch.zeros_like(x)], dim=-1)[None]
    patch = torch.zeros(15, 1, dtype=torch.bool)
    patch[0] = True
    image = fractalops.rasterize_points(points, (side, 1), mode="density", backend=backend)
    assert image.nonzero()[:, 1].tolist() == [side - 1]
    assert image.sum() == 3  # 4194301.5 and 4194302.5 are ties: both go to 4194302
    image = fractalops.rasterize_points(points, (side, 1), mode="density", patch=patch, backend=backend)
    assert image.nonzero()[:, 1].tolist() == [side - 8, side - 1]
    assert image.sum() == 4


BAD = [math.nan, math.inf, -math.inf, 1e30, -1e30, 2.0**31, -(2.0**32), 2.0**63, 2.0**23, -(2.0**22), 4e6, -12.0, 21.0]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sides", [None, (15, 15)], ids=["points", "patches"])
def test_a_point_that_reaches_no_pixel_adds_nothing(
    sides: tuple[int, int] | None, dtype: torch.dtype, bad: float, backend: str
) -> None:
    for position in ((bad, 3.0), (3.0, bad), (bad, bad), (-bad, bad)):
        points = torch.tensor([[position, (2.0, 2.0)]], dtype=dtype)
        patch = None if sides is None else torch.ones(sides, dtype=torch.bool)
        image = fractalops.rasterize_points(points, 9, mode="density", patch=patch, backend=backend)
        assert_same_bits(image, fractalops.rasterize_points(points[:, 1:], 9, mode="density", patch=patch))


# Patches


def test_a_patch_is_drawn_as_it_is(backend: str) -> None:
    patch = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 255]], dtype=torch.uint8)
    points = torch.tensor([[[2.0, 2.0], [-1.0, -1.0], [5.0, 3.0], [6.0, 0.0]]])
    image = fractalops.rasterize_points(points, (5, 4), patch=patch, backend=backend)
    expected = torch.tensor([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 1, 1]], dtype=torch.uint8)
    assert_same_bits(image[0], expected)


@pytest.mark.parametrize("sides", [(1, 1), (3, 3)], ids=str)
def test_an_empty_patch_stamps_nothing(sides: tuple[int, int], backend: str) -> None:
    points, _ = SMALL.inputs()
    patch = torch.ones(4, *sides, dtype=torch.bool)
    patch[1] = False
    image = fractalops.rasterize_points(points, (9, 6), mode="density", patch=patch, backend=backend)
    assert image.flatten(1).any(1).tolist() == [True, False, True, True]


@pytest.mark.parametrize("generator", [None, torch.Generator().manual_seed(0)], ids=["default", "given"])
def test_random_patches_are_never_empty_and_take_every_form(generator: torch.Generator | None) -> None:
    torch.manual_seed(0)
    patches = fractalops.random_patches(20_000, 3, generator)
    assert patches.shape == (20_000, 3, 3)
    assert patches.dtype == torch.bool
    number = (patches.flatten(1) * 2 ** torch.arange(9)).sum(1)
    counts = number.bincount(minlength=512)
    assert counts[0] == 0
    assert counts[1:].min() > 10  # 39 are expected of each of the 511
    assert fractalops.random_patches(50, 1).all()
    assert fractalops.random_patches(0).shape == (0, 3, 3)


@pytest.mark.parametrize(
    ("error", "arguments"),
    [
        (ValueError, (-1, 3)),
        (ValueError, (2, 0)),
        (ValueError, (2, 4)),
        (ValueError, (2, 17)),
        (TypeError, (2.0, 3)),
        (TypeError, (2, "3")),
    ],
)
def test_random_patches_names_the_argument(error: type[Exception], arguments: tuple[int, int]) -> None:
    with pytest.raises(error, match=r"^random_patches: (count|size) must .+, got .+"):
        fractalops.random_patches(*arguments)


# Layouts, threads, transformations


@pytest.mark.parametrize("mode", MODES)
def test_strided_and_expanded_inputs(mode: str, backend: str) -> None:
    points, patch = SMALL.inputs(torch.float32)
    assert patch is not None
    strided = points.permute(2, 1, 0).contiguous().permute(2, 1, 0), patch.mT.contiguous().mT
    expanded = points[:1].expand(4, 20, 2), patch[:1, :1].expand(4, 3, 5)
    for inputs in (strided, expanded):
        assert not any(tensor.is_contiguous() for tensor in inputs)
        image, expected = (
            fractalops.rasterize_points(each[0], (9, 6), mode=mode, patch=each[1], backend=backend)
            for each in (inputs, [tensor.contiguous() for tensor in inputs])
        )
        assert_same_bits(image, expected)


@pytest.mark.usefixtures("restored_threads")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("batch", [1, 7])
def test_counts_do_not_depend_on_threads(batch: int, mode: str, native: str) -> None:
    points, patch = Case("many", batch=batch, points=20_000, size=(100, 70), sides=(3, 3)).inputs(torch.float32)
    expected = fractalops.rasterize_points(points, (100, 70), mode=mode, patch=patch, backend="reference")
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        image = fractalops.rasterize_points(points, (100, 70), mode=mode, patch=patch, backend=native)
        assert_same_bits(image, expected)


@pytest.mark.parametrize("case", [CASES[0], CASES[3], SMALL], ids=lambda case: case.name)
@pytest.mark.parametrize("binary", [True, False])
def test_opcheck(case: Case, binary: bool, native: str) -> None:
    points, patch = case.inputs()
    marks = torch.ones(case.batch, 1, 1, dtype=torch.uint8) if patch is None else patch.to(torch.uint8)
    torch.library.opcheck(torch.ops.fractalops.rasterize_points.default, (points, marks, *case.size, binary))


@pytest.mark.parametrize("mode", MODES)
def test_compile(mode: str, backend: str) -> None:
    torch._dynamo.reset()

    def draw(points: Tensor, patch: Tensor | None) -> Tensor:
        return fractalops.rasterize_points(points, SMALL.size, mode=mode, patch=patch, backend=backend)

    points, patch = SMALL.inputs()
    compiled = torch.compile(draw, fullgraph=True, backend="aot_eager")
    assert_same_bits(compiled(points, patch), draw(points, patch))
    assert_same_bits(compiled(points, None), draw(points, None))


@pytest.mark.parametrize("dimensions", [(0, None), (None, 0), (0, 0), (1, -1)], ids=str)
def test_vmap(dimensions: tuple[int | None, int | None], backend: str) -> None:
    inputs = SMALL.inputs()
    assert inputs[1] is not None
    lanes = [[tensor.roll(k, dims=1) for k in range(3)] for tensor in inputs if tensor is not None]
    stacked = [
        lane[0] if dimension is None else torch.stack(lane, dim=dimension)
        for lane, dimension in zip(lanes, dimensions, strict=True)
    ]

    def draw(points: Tensor, patch: Tensor) -> Tensor:
        return fractalops.rasterize_points(points, SMALL.size, mode="density", patch=patch, backend=backend)

    drawn = torch.vmap(draw, in_dims=dimensions)(*stacked)
    for k in range(3):
        points, patch = (lane[0 if dimension is None else k] for lane, dimension in zip(lanes, dimensions, strict=True))
        assert_same_bits(drawn[k], draw(points, patch))


def test_there_are_no_gradients(backend: str) -> None:
    points, patch = SMALL.inputs()
    image = fractalops.rasterize_points(points.requires_grad_(), SMALL.size, patch=patch, backend=backend)
    assert not image.requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_reference_takes_half_precision(dtype: torch.dtype) -> None:
    points = torch.tensor([[[2.0, 256.0], [0.5, 1.5]]], dtype=dtype)
    image = fractalops.rasterize_points(points, (3, 257), backend="reference")
    assert image.nonzero().tolist() == [[0, 0, 2], [0, 2, 256]]


def test_on_a_gpu_the_reference_stands_in_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends.STATE, "forced", None)
    monkeypatch.setattr(backends.STATE, "warned", set())
    with pytest.warns(UserWarning, match=r"^rasterize_points: using the slow reference on cuda: "):
        assert backends.choose("rasterize_points", torch.device("cuda"), None) == "reference"


@pytest.mark.parametrize("mode", MODES)
def test_shapes_without_values(mode: str) -> None:
    image = fractalops.rasterize_points(torch.empty(2, 5, 2, device="meta"), (9, 6), mode=mode)
    assert (image.shape, image.dtype, image.device.type) == ((2, 9, 6), MODES[mode], "meta")


# Errors

MASK = torch.ones(3, 3, dtype=torch.bool)
ERRORS: list[tuple[type[Exception], str, dict[str, object]]] = [
    (ValueError, "points", {"points": torch.zeros(4, 2)}),
    (ValueError, "points", {"points": torch.zeros(4, 0, 2)}),
    (ValueError, "points", {"points": torch.zeros(4, 9, 3)}),
    (ValueError, "points", {"points": torch.zeros(1, 1, 2).expand(1, 2**31, 2)}),
    (TypeError, "points", {"points": torch.zeros(4, 9, 2, dtype=torch.int64)}),
    (TypeError, "points", {"points": [[[1.0, 2.0]]]}),
    (ValueError, "size", {"size": 0}),
    (ValueError, "size", {"size": (9, 2**22)}),
    (TypeError, "size", {"size": 9.0}),
    (ValueError, "mode", {"mode": "count"}),
    (ValueError, "mode", {"mode": None}),
    (ValueError, "patch", {"patch": MASK[0]}),
    (ValueError, "patch", {"patch": MASK[:2]}),
    (ValueError, "patch", {"patch": MASK[:, :0]}),
    (ValueError, "patch", {"patch": torch.ones(1, 17, dtype=torch.bool)}),
    (ValueError, "patch", {"patch": MASK.expand(3, 3, 3)}),
    (ValueError, "patch", {"patch": MASK.expand(1, 4, 3, 3)}),
    (ValueError, "patch", {"patch": MASK.to("meta")}),
    (TypeError, "patch", {"patch": MASK.float()}),
    (TypeError, "patch", {"patch": MASK.long()}),
    (TypeError, "patch", {"patch": "3 x 3"}),
    (ValueError, "backend", {"backend": "no such backend"}),
]


@pytest.mark.parametrize(("error", "argument", "changes"), ERRORS)
def test_errors_name_the_argument_and_what_it_got(
    error: type[Exception], argument: str, changes: dict[str, object], backend: str
) -> None:
    arguments = {"points": torch.zeros(4, 9, 2), "size": 9, "backend": backend} | changes
    with pytest.raises(error, match=rf"^rasterize_points: {argument} must .+, got .+"):
        fractalops.rasterize_points(**arguments)  # type: ignore[arg-type]


def test_the_native_op_takes_two_dtypes(native: str) -> None:
    with pytest.raises(TypeError, match=r"^rasterize_points: points must be float32 or float64 .*, got torch.float16"):
        fractalops.rasterize_points(torch.zeros(1, 1, 2).half(), 9, backend=native)


@pytest.mark.parametrize(
    ("message", "points", "patch", "size"),
    [
        ("points has a shape that doesn't fit", (1, 5, 3), (1, 1, 1), (9, 9)),
        ("patch has a shape that doesn't fit", (1, 5, 2), (2, 1, 1), (9, 9)),
        ("patch must have odd sides up to 15, got 2", (1, 5, 2), (1, 3, 2), (9, 9)),
        ("patch must have odd sides up to 15, got 17", (1, 5, 2), (1, 17, 1), (9, 9)),
        (r"size must lie in \[1, 2\^22\), got 0", (1, 5, 2), (1, 1, 1), (9, 0)),
        (r"size must lie in \[1, 2\^22\), got 4194304", (0, 5, 2), (0, 1, 1), (2**22, 9)),
        (r"points must be at most 2\^31 - 1 an image, got 2147483648", (0, 2**31, 2), (0, 1, 1), (9, 9)),
    ],
)
def test_the_raw_op_checks_what_it_relies_on(
    message: str, points: tuple[int, ...], patch: tuple[int, ...], size: tuple[int, int], native: str
) -> None:
    with pytest.raises(RuntimeError, match=message):
        torch.ops.fractalops.rasterize_points(torch.zeros(points), torch.ones(patch, dtype=torch.uint8), *size, True)
