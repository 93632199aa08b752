"""Tests that torch's settings of the process (default dtype and device, autocast) change no result."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import fractalops
from fractalops import FitConfig, FractalDataset, PointConfig
from fractalops.data.class_search import search_classes
from fractalops.data.fractal_dataset import RULES
from fractalops.data.targets import TensorTargets
from fractalops.drawing.morphing import Morph
from tests.support.cases import seeded
from tests.support.learning import disc
from tests.support.tolerances import assert_same_bits

PACKAGE = Path(fractalops.__file__).parent
# "meta" tensors have no values, so any use of the default device fails or changes a result.
AMBIENT: dict[str, Callable[[], None]] = {
    "float64": lambda: torch.set_default_dtype(torch.float64),
    "meta": lambda: torch.set_default_device("meta"),
    "both": lambda: (torch.set_default_dtype(torch.float64), torch.set_default_device("meta"))[0],
    "autocast": lambda: torch.set_autocast_enabled("cpu", True),
}


@pytest.fixture(autouse=True)
def _fewer_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fractalops.fitting.copies._CANDIDATES", 50)


@pytest.fixture(params=AMBIENT)
def ambient(request: pytest.FixtureRequest) -> Iterator[Callable[[], None]]:
    """Yield a function that sets the state. The state is reset after the test."""
    yield AMBIENT[request.param]
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.set_autocast_enabled("cpu", False)


TARGET = disc(16)  # (16, 16)
CLOUD = torch.rand(300, 3, generator=seeded(0))
MATRIX = torch.rand(3, 2, 2, generator=seeded(1)) - 0.5
OFFSET = torch.rand(3, 2, generator=seeded(2))
INDEX = torch.randint(3, (2, 40), generator=seeded(3))
POINTS = 8 * torch.rand(2, 40, 2, generator=seeded(4))
CONFIG = {"maps": 3, "points": 30, "sequences": 2, "steps": 3}


def _learned(target: Tensor = TARGET, **changes: Any) -> fractalops.FitResult:
    return fractalops.fit(target, FitConfig(**CONFIG | changes))


def _module(**changes: Any) -> list[Tensor]:
    system = fractalops.IFS(2, 3, generator=seeded(5), **changes)
    return [*system.parameters(), system(8, sequences=2, points=20, generator=seeded(6))]


def _given() -> list[Tensor]:
    system = fractalops.IFS.from_maps([MATRIX.tolist(), MATRIX[:2].tolist()], [OFFSET.tolist(), OFFSET[:2].tolist()])
    learned = fractalops.fit(TARGET, FitConfig(**CONFIG), start=fractalops.IFS.from_maps(MATRIX, OFFSET))
    drawn = system(8, points=20, generator=seeded(6))
    return [*system.parameters(), *system.buffers(), drawn, learned.losses]


def _gradients() -> list[Tensor]:
    leaves = [tensor.clone().requires_grad_() for tensor in (MATRIX, OFFSET)]
    return list(torch.autograd.grad(fractalops.render(*leaves, INDEX, 8).square().sum(), leaves))


def _pictures(rendering: str, background: str) -> list[Tensor]:
    data = FractalDataset(3, 2, (17, 23), rendering=rendering, background=background, points=500)  # type: ignore[arg-type]
    return [data.matrix, data.offset, *(image for image, _ in data.__getitems__(range(6)))]


def _published(rules: Any, rendering: Any) -> list[Tensor]:
    classes = search_classes(2, rate=0.05, size=64, points=2000)
    data = FractalDataset(classes, None, 17, rules=rules, rendering=rendering, points=300)
    return [image for image, _ in data.__getitems__([0, len(data) - 1])]


def _clouds(rendering: Any) -> list[Tensor]:
    data = FractalDataset(2, 2, 9, rendering=rendering, dimensions=3, points=300)
    return [data.matrix, data.offset, *(item for item, _ in data.__getitems__(range(4)))]


def _point_result() -> list[Tensor]:
    result = fractalops.fit_points(CLOUD, PointConfig(maps=3, points=100, steps=2))
    return [result.matrix, result.offset, result.losses, result.sample(50, generator=seeded(7))]


CALLS: dict[str, Callable[[], Any]] = {
    "affine_chain": lambda: fractalops.affine_chain(MATRIX, OFFSET, INDEX, torch.zeros_like(OFFSET[0])),
    "rbf_rasterize": lambda: fractalops.rbf_rasterize(POINTS, 8),
    "rasterize_points": lambda: fractalops.rasterize_points(
        POINTS, 8, patch=fractalops.random_patches(2, 3, seeded(8))
    ),
    "render": lambda: fractalops.render(MATRIX, OFFSET, INDEX, (7, 9), viewport="fit", blend="mean"),
    "render reference": lambda: _on_reference(lambda: fractalops.render(MATRIX, OFFSET, INDEX, 8)),
    "render backward": _gradients,
    "render_points": lambda: fractalops.render_points(CLOUD[None], 9, azimuth=30),
    "project": lambda: fractalops.project(CLOUD, 10.0, 20.0).plane,
    "random_patches": lambda: fractalops.random_patches(9, 5, seeded(9)),
    "IFS": _module,
    "IFS matrix": lambda: _module(parametrization="matrix", channels=3, probabilities="learned", sampling="balanced"),
    "IFS.from_maps": lambda: _given(),
    "box_dimension": lambda: torch.tensor(
        fractalops.box_dimension(CLOUD.repeat(4, 1)), dtype=torch.float64, device="cpu"
    ),
    "FractalEmbedding": lambda: list(fractalops.FractalEmbedding(3, generator=seeded(10)).parameters()),
    "fit": lambda: [(result := _learned()).best_image, result.losses, *result.system.parameters(), result.draw(16)],
    "zoom": lambda: _learned().draw(16, zoom=(0.5, 0.5, 4)),
    "morph": lambda: _morphed(),
    "targets": lambda: TensorTargets(torch.stack([TARGET, TARGET.mT]))[1],
    "fit in color": lambda: _learned(TARGET.expand(3, -1, -1), color=True, blend="mean").losses,
    "fit published": lambda: fractalops.fit(TARGET, FitConfig.paper(maps=3, points=30, sequences=2, steps=3)).losses,
    "fit with a loss": lambda: fractalops.fit(TARGET, FitConfig(**CONFIG), loss=_loss).losses,
    "fit of tiles": lambda: _learned(initialization="tiles", noise=0.1).losses,
    "fit_points": _point_result,
    "FractalDataset of points": lambda: _clouds("points"),
    "FractalDataset of views": lambda: _clouds("views"),
    "search_classes": lambda: [system.matrix for system in search_classes(2, rate=0.1, size=64, points=2000)],
    **{
        f"FractalDataset {rules} {rendering}": lambda r=rules, d=rendering: _published(r, d)
        for rules, kind in RULES.items()
        if rules != "own"
        for rendering in kind.renderings
    },
    **{
        f"FractalDataset {rendering} {background}": lambda r=rendering, b=background: _pictures(r, b)
        for rendering in RULES["own"].renderings
        for background in ("black", "random")
    },
}


def _loss(images: Tensor, target: Tensor) -> Tensor:
    return (images - target).abs().mean()


def _morphed() -> list[Tensor]:
    first, last = (fractalops.IFS(1, maps, generator=seeded(maps)).system() for maps in (2, 4))
    system = Morph(first, last).at(0.3)
    return [system.matrix, system.offset, system.probabilities]


def _on_reference(call: Callable[[], Tensor]) -> Tensor:
    with fractalops.use_backend("reference"):
        return call()


def _tensors(result: Any) -> list[Tensor]:
    return [tensor.detach() for tensor in (result if isinstance(result, list) else [result])]


@pytest.mark.parametrize("name", CALLS)
def test_default_dtype_and_device_change_no_bit(name: str, ambient: Callable[[], None]) -> None:
    expected = _tensors(CALLS[name]())
    ambient()
    found = _tensors(CALLS[name]())
    for one, other in zip(found, expected, strict=True):
        assert (one.dtype, one.device) == (other.dtype, other.device)
        assert_same_bits(one, other)


def test_files_are_read_alike(tmp_path: Path, ambient: Callable[[], None]) -> None:
    learned = _learned()
    points = fractalops.fit_points(CLOUD, PointConfig(maps=2, points=50, steps=1))
    drawn = learned.draw(9)
    learned.save_page(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_bytes()
    ambient()
    for result, kind in ((learned, fractalops.FitResult), (points, fractalops.PointFitResult)):
        result.save(tmp_path / "result.safetensors")
        loaded = kind.load(tmp_path / "result.safetensors")
        assert_same_bits(loaded.losses, result.losses)
        if isinstance(loaded, fractalops.FitResult):
            assert_same_bits(loaded.draw(9), drawn)
            loaded.save_page(tmp_path / "page.html")
            assert (tmp_path / "page.html").read_bytes() == page
    run = fractalops.fit_dataset(TARGET[None], tmp_path / "run", FitConfig(**CONFIG))
    assert_same_bits(run.system().offset, learned.system.offset)
    assert run.minimum_mse.dtype == torch.float32


def test_modules_are_made_on_the_default_device() -> None:
    with torch.device("meta"):
        modules = [fractalops.IFS(2, 3, channels=3), fractalops.FractalEmbedding(3)]
        drawn = fractalops.IFS(2, 3, generator=seeded(0))
    assert {parameter.device.type for module in modules for parameter in module.parameters()} == {"meta"}
    assert drawn.svd.device.type == "cpu"  # the generator's device has priority


# Functions of torch that use the default device, and those that may also use the default dtype.
WHOLE = {"arange", "as_tensor", "randint", "randperm"}
FLOATING = {"asarray", "empty", "eye", "full", "linspace", "logspace", "ones", "rand", "randn", "tensor", "zeros"}


def test_every_tensor_that_is_made_names_its_device_and_type() -> None:
    missing = []
    for path in sorted(PACKAGE.rglob("*.py")):
        # The last two are programs, which are not called under other defaults.
        if path.relative_to(PACKAGE).parts[0] in ("kernels", "bench", "cli", "experiments"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not ast.unparse(node.func).startswith("torch."):
                continue
            name = ast.unparse(node.func).removeprefix("torch.")
            wanted = {"device"} if name in WHOLE else {"device", "dtype"} if name in FLOATING else set()
            if left := wanted - {keyword.arg for keyword in node.keywords}:
                missing.append(f"{path.relative_to(PACKAGE)}:{node.lineno} torch.{name}: {sorted(left)}")
    assert missing == []
