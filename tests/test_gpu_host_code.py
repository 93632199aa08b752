"""Tests that the host does not wait for a GPU, and launches on the tensors' device and stream.

Some tests need a GPU (`pytest -m gpu`). The others use fake CUDA tensors to find what a forward pass reads and copies,
and find what a step of `fit` reads on the CPU.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

import fractalops
from fractalops import FitConfig
from fractalops.fitting import learning
from fractalops.fitting.learning import Batch, run_steps
from fractalops.fitting.targets import settings_for
from fractalops.kernels import launch
from tests.support.host_waits import CALLS, COPIES, NoWaiting, chain_inputs
from tests.support.requirements import ROOT, need_gpu, setup_functions, skip_or_fail
from tests.support.tolerances import assert_all_same_bits

# Reads and copies


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: x[x > 0],
        lambda x: torch.equal(x, x + 1),
        lambda x: x.nonzero(),
    ],
    ids=["item", "bool", "mask", "equal", "nonzero"],
)
def test_reads_are_found(read: Callable[[Tensor], object]) -> None:
    with pytest.raises(AssertionError, match="reads values"), NoWaiting():
        read(torch.ones(3))


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the error of each call on fake CUDA tensors, or an empty string."""
    library = tmp_path_factory.mktemp("guard") / "no_device_guard.so"
    torch_folder = Path(torch.__file__).parent
    source = ROOT / "tests" / "support" / "no_device_guard.cpp"
    options = ["-std=c++20", "-fPIC", "-shared", f"-isystem{torch_folder}/include", f"-L{torch_folder}/lib"]
    compiler = setup_functions()["find_compiler"]() or skip_or_fail("compiler", "no C++ compiler was found")
    subprocess.run([*compiler, *options, str(source), "-o", str(library), "-lc10"], check=True)
    command = [sys.executable, "-m", "tests.support.host_waits", str(library)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch has a device guard of its own")
@pytest.mark.parametrize("name", CALLS)
def test_a_call_on_fake_cuda_tensors_waits_for_nothing(name: str, errors: dict[str, str]) -> None:
    assert errors[name] == ""


def test_copies_are_found(errors: dict[str, str]) -> None:
    message = "AssertionError: the host copies a tensor of shape {} to {}"
    assert {name: errors[name] for name in COPIES} == {
        "a copy": message.format("(3,)", "cuda"),
        "a copy of one number": message.format("()", "cuda"),
        "a copy into a tensor": message.format("(3,)", "cuda"),
        "a copy to the host": message.format("(3,)", "cpu"),
    }


# A step of `fit`

CONFIGS = {
    "default": FitConfig(),
    "paper": FitConfig.paper(),
    "color": FitConfig(color=True),
    "determinants and noise": FitConfig(
        sampling="independent", probabilities="determinant", noise=0.1, noise_every=2, noise_until=1.0
    ),
    "viewport by the points": FitConfig(viewport="fit", optimizer="sgd"),
    "fixed sequences": FitConfig(objective="fixed"),
    "matrices": FitConfig(parametrization="matrix", gradient_clip=1.0),
}


def start(config: FitConfig, device: str) -> tuple[Batch, FitConfig]:
    """Return a batch of two images and its resolved configuration."""
    targets = torch.rand(2, *([3] if config.color else []), 8, 8, device=device)  # (S, ...)
    settings = {"steps": 8, "batch_size": 2, "maps": 5, "points": 50, "sequences": 3}
    config = settings_for(targets, FitConfig(**{**vars(config), **settings}))
    return Batch.start(targets, config, range(2)), config


def refuse_to_read(tensor: Tensor) -> None:
    raise AssertionError("the host reads values")


@pytest.mark.parametrize("name", CONFIGS)
def test_a_step_of_fit_reads_no_values(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "check_native", lambda *arguments: "to be traced")  # the native loop is a single op
    # Values that are free to read on the CPU are not read on a GPU.
    for module in [module for module in sys.modules.values() if hasattr(module, "can_read")]:
        if module.__name__.startswith("fractalops."):
            monkeypatch.setattr(module, "can_read", lambda *arguments: False)
    batch, config = start(CONFIGS[name], "cpu")
    for method in ("tolist", "numpy"):  # `NoWaiting` does not find these on the CPU
        monkeypatch.setattr(Tensor, method, refuse_to_read)
    with NoWaiting():
        for _ in run_steps(batch, config, None, False):
            pass
    assert batch.step == 8


@contextmanager
def waits_are_errors() -> Iterator[None]:
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.parametrize("name", CALLS)
def test_on_a_gpu_a_call_waits_for_nothing(name: str) -> None:
    need_gpu()
    call = CALLS[name]("cuda")
    call()  # compiles and loads kernels
    with waits_are_errors():
        call()


@pytest.mark.gpu
@pytest.mark.parametrize("cuda_graph", [True, False], ids=["graph", "no graph"])
@pytest.mark.parametrize("name", CONFIGS)
def test_on_a_gpu_a_step_of_fit_waits_for_nothing(name: str, cuda_graph: bool) -> None:
    need_gpu()
    batch, config = start(CONFIGS[name], "cuda")
    steps = run_steps(batch, config, None, cuda_graph)
    for _ in range(5):  # compile, and capture the graph
        next(steps)
    with waits_are_errors():
        next(steps)


# Devices and streams


def test_a_triton_kernel_is_launched_on_the_device_of_its_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[object] = []

    class Kernel:
        def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
            return lambda *arguments, **constants: log.append(grid)

    @contextmanager
    def device(which: torch.device) -> Iterator[None]:
        log.append(which)
        yield
        log.append("restored")

    monkeypatch.setattr(torch.cuda, "device", device)
    launch.launch(Kernel(), 7, 4, SimpleNamespace(is_cuda=True, device="cuda:1"))
    assert log == ["cuda:1", (7,), "restored"]


def draw(device: str) -> tuple[Tensor, ...]:
    """Return an image, its gradients and counts of points. Kernels of both libraries run."""
    matrix, offset, index = chain_inputs(device)
    leaves = [each.requires_grad_() for each in (matrix, offset)]
    image = fractalops.render(*leaves, index, (32, 20))
    gradients = torch.autograd.grad(image.square().sum(), leaves)
    return image.detach(), *gradients, fractalops.rasterize_points(8 * torch.ones(1, 5, 2, device=device), 16)


@pytest.mark.gpu
def test_on_a_gpu_another_stream_gives_the_same() -> None:
    need_gpu()
    expected = draw("cuda")
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)  # cycles; launches on the default stream would run earlier
        late = torch.cuda.Event()
        got = draw("cuda")
        late.record()
    late.synchronize()
    assert_all_same_bits(got, expected)


@pytest.mark.gpu
def test_on_two_gpus_each_op_runs_on_that_of_its_tensors() -> None:
    need_gpu()
    if torch.cuda.device_count() < 2:
        pytest.skip("torch finds one NVIDIA GPU")
    expected = draw("cuda:0")
    got = draw("cuda:1")  # the current device is 0
    assert {each.device.index for each in got} == {1}
    assert torch.cuda.current_device() == 0
    assert_all_same_bits([each.cpu() for each in got], [each.cpu() for each in expected])
