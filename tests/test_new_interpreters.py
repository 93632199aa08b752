"""Tests of backends in a new interpreter: environment variables, missing libraries, and imports."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fractalops
from fractalops import backends

PACKAGE = Path(fractalops.__file__).parent
CALL = (
    "fractalops.affine_chain(torch.eye(2)[None], torch.zeros(1, 2), torch.zeros(1, 3, dtype=torch.uint8),"
    " torch.zeros(2), backend={})"
)
pytestmark = pytest.mark.filterwarnings("error::UserWarning")


def python(code: str, folder: Path = PACKAGE.parent, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a new interpreter that finds fractalops in `folder`."""
    inherited = {name: value for name, value in os.environ.items() if name != "FRACTALOPS_BACKEND"}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=inherited | {"PYTHONPATH": str(folder)} | environment,
        cwd=folder,
        capture_output=True,
        text=True,
    )


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(
    ("forced", "argument", "expected"),
    [
        ("reference", None, "reference"),
        ("reference", "native", "native"),
        ("native", None, "native"),
        ("", None, "native"),
        ("fast", None, "ValueError: affine_chain: FRACTALOPS_BACKEND must be one of reference, native, got 'fast'"),
    ],
)
def test_the_environment_forces_a_backend(forced: str, argument: str | None, expected: str) -> None:
    code = f"""
import fractalops, torch
from fractalops.ops import affine_chain
fractalops.show_backends()
affine_chain._native = lambda *inputs: print("took native")
affine_chain.reference.affine_chain = lambda *inputs: print("took reference")
{CALL.format(repr(argument))}
"""
    done = python(code, FRACTALOPS_BACKEND=forced)
    assert f"FRACTALOPS_BACKEND: {forced or 'not set'}\n" in done.stdout
    if expected in backends.BACKENDS:
        assert done.stdout.endswith(f"took {expected}\n")
    else:
        assert done.stderr.endswith(expected + "\n")


@pytest.mark.parametrize("damaged", [False, True], ids=["missing", "damaged"])
def test_a_package_without_its_library_imports_quietly_and_works(damaged: bool, tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "fractalops", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    if damaged:
        for name in ("_cpu.so", "_cuda.so"):
            (tmp_path / "fractalops" / name).write_bytes(b"\x7fELF but not a library")
    code = f"""
import warnings
warnings.simplefilter("error")
import torch
torch.version.cuda = "13.0"
import fractalops
assert fractalops.__file__.startswith({str(tmp_path)!r})
fractalops.show_backends()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    points = {CALL.format("None")}
    {CALL.format("None")}
    fractalops.rbf_rasterize(points, 4)
    fractalops.rbf_rasterize(points, 4)
    fractalops.IFS(2, 3)(8)
    fractalops.IFS(2, 3, sampling="balanced")(8)
print(*(str(each.message).split(":")[0] for each in caught if issubclass(each.category, UserWarning)))
for device in "cpu", "cuda":
    try:
        fractalops.backends.choose("affine_chain", torch.device(device), "native")
    except fractalops.BackendError as error:
        print(type(error.__cause__).__name__, error)
"""
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    *report, warned, refused, refused_cuda = done.stdout.splitlines()
    status = "built, but it can't be loaded" if damaged else "not built"
    reason = "can't be loaded" if damaged else "was not built"
    used = set(backends.OPS) - {
        "clamped_squared_error",
        "draw_masks",
        "k_means",
        "learn_steps",
        "rasterize_orbit",
        "rasterize_points",
    }  # ops of learning and of counts, which are not called here
    assert sorted(warned.split()) == sorted(used)
    for device, refusal in (("CPU", refused), ("CUDA", refused_cuda)):
        assert any(line.startswith(f"native {device} library: {status}") for line in report)
        assert refusal.startswith(
            f"OSError affine_chain: backend 'native' can't run: the native {device} library {reason}"
        )
        assert "pip install" in refusal


class _Drawing(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.system = fractalops.IFS(2, 3, channels=3, generator=torch.Generator().manual_seed(0))

    def forward(self, index: torch.Tensor, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.system(9, index=index), fractalops.rbf_rasterize(points, 9)


@pytest.mark.usefixtures("native")
@pytest.mark.slow
def test_an_exported_program_needs_the_package_where_it_is_loaded(tmp_path: Path) -> None:
    """Without the package, torch's error names the missing op and says what to import."""
    inputs = torch.randint(3, (2, 2, 20)), 9 * torch.rand(2, 20, 2)
    torch.export.save(torch.export.export(_Drawing(), inputs), tmp_path / "drawing.pt2")
    torch.save((inputs, _Drawing()(*inputs)), tmp_path / "expected.pt")
    done = python(f"""
import torch
try:
    torch.export.load({str(tmp_path / "drawing.pt2")!r})
except RuntimeError:
    import fractalops
program = torch.export.load({str(tmp_path / "drawing.pt2")!r}).module()
inputs, expected = torch.load({str(tmp_path / "expected.pt")!r})
try:
    program(*inputs)  # its parameters require gradients
except RuntimeError as error:
    print(str(error).partition(": ")[2])
with torch.no_grad():
    print(all(torch.equal(*each) for each in zip(program(*inputs), expected, strict=True)))
""")
    assert done.stdout == "call its public function, or run it within torch.no_grad()\nTrue\n", done.stderr
    assert "failed to resolve torch.ops.fractalops." in done.stderr
    assert "Please import the custom op" in done.stderr


def test_import_pulls_in_nothing_heavy_and_says_nothing() -> None:
    listing = "import sys, torch; before = set(sys.modules)\nimport fractalops\nprint(*(set(sys.modules) - before))"
    done = python(listing)
    assert done.stderr == ""
    added = {name.split(".")[0] for name in done.stdout.split()}
    heavy = {"matplotlib", "triton", "PIL", "tqdm", "safetensors", "plyfile", "laspy", "IPython", "pytest", "numpy"}
    assert added.isdisjoint(heavy)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("", "False"), ("0", "False"), ("1", "True"), ("yes", "ValueError: FRACTALOPS_DEBUG must be 0 or 1, got 'yes'")],
)
def test_debug_mode_is_read_once_and_an_unknown_value_is_named(value: str, expected: str) -> None:
    code = """
import os, fractalops
os.environ["FRACTALOPS_DEBUG"] = "1"
try:
    print(fractalops.backends.debugging())
except ValueError as error:
    print("ValueError:", error)
fractalops.show_backends()
"""
    first, *report = python(code, FRACTALOPS_DEBUG=value).stdout.splitlines()
    assert first == expected
    assert f"FRACTALOPS_DEBUG: {value if value in ('1', 'yes') else 'not set'}" in report
