"""Tests of `FitResult`: its file is read back bit for bit, and any other file is refused with one line."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import fractalops
from fractalops import FitResult, InputError
from fractalops.drawing.high_resolution import draw_high_resolution
from fractalops.io.tensor_files import read_tensors, write_tensors
from tests.support.learning import assert_same_result, at_call, bar, mean_square, tiny


def learned(**changes: Any) -> FitResult:
    """Return the result for two pictures, in color or gray."""
    target = bar(8, 6).repeat(2, *([3] if "color" in changes else []), 1, 1)  # (2, 8, 6) or (2, 3, 8, 6)
    return fractalops.fit(target, tiny(**changes))


@pytest.fixture
def result() -> FitResult:
    return learned(snapshots=3)


@pytest.fixture
def saved(result: FitResult, tmp_path: Path) -> Path:
    result.save(tmp_path / "system.safetensors")
    return tmp_path / "system.safetensors"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"snapshots": 3},
        {"cutoff": None, "gradient_clip": None},
        {"viewport": "stretch"},
        {"viewport": "fit"},
        {"viewport": (-1, -2.5, 3, 0.1)},
        {"parametrization": "matrix", "optimizer": "sgd", "objective": "fixed"},
        {"singular_values": "clamp", "clamp": False},
        {"steps": 0},
        {"seed": 2**64},
        {"sampling": "independent"},
        {"color": True, "snapshots": 3},
        {"color": True, "parametrization": "matrix"},
        {"color": True, "steps": 0},
    ],
    ids=str,
)
def test_comes_back_bit_for_bit(changes: dict[str, Any], tmp_path: Path) -> None:
    result = learned(**changes)
    result.save(tmp_path / "a file without a suffix")
    state = torch.get_rng_state()
    loaded = FitResult.load(str(tmp_path / "a file without a suffix"))
    assert torch.equal(torch.get_rng_state(), state)
    assert_same_result(loaded, result)
    assert loaded.system.sampling == result.system.sampling == result.config.sampling
    assert (loaded.config, loaded.seconds) == (result.config, result.seconds)
    index = result.system.sample(2, 30)
    assert torch.equal(loaded.system(16, index=index), result.system(16, index=index))


def test_a_drawing_shows_what_was_learned_in_the_viewport_where_it_was_learned() -> None:
    colored = torch.stack((bar(8, 6), 0.5 * bar(8, 6), 0 * bar(8, 6)))  # (3, 8, 6)
    for target, config in ((bar(8, 6), tiny()), (colored, tiny(color=True, viewport="fit"))):
        result = fractalops.fit(target, config)
        arguments: dict[str, Any] = {"points": 5000, "intensity": result.intensity, "viewport": config.viewport}
        expected = draw_high_resolution(
            result.system, (40, 30), generator=torch.Generator().manual_seed(config.seed), **arguments
        )
        assert torch.equal(result.draw(40, points=5000), expected)
        assert torch.equal(result.draw((40, 30), points=5000), expected)
        assert result.draw(16, points=100, seed=1).shape == (1, *target.shape[:-2], 16, 12)
        zoomed = result.draw(16, points=100, zoom=(0.5, 0.5, 1))
        assert zoomed.shape == (1, *target.shape[:-2], 16, 12)
        assert zoomed.max() > 0
    for arguments, message in (
        ({"size": 0}, r"size must lie in \[1, .*\], got 0"),
        ({"size": 8, "points": 0}, "points .* got 0"),
        ({"size": 8, "zoom": (0.5, 2, 3)}, r"zoom's y must lie in \[0, 1\], got 2"),
    ):
        with pytest.raises(ValueError, match=f"^FitResult.draw: {message}$"):
            result.draw(**arguments)
    with pytest.raises(TypeError, match=r"^FitResult.draw: size must be a whole number or a pair of them, got 8.0$"):
        result.draw(8.0)  # type: ignore[arg-type]


def test_an_interrupted_result_comes_back_too(tmp_path: Path) -> None:
    loss = at_call(14, mean_square, KeyboardInterrupt())
    partial = fractalops.fit(torch.stack([bar(8, 6)] * 3), tiny(batch_size=1, snapshots=2), loss=loss)
    partial.save(tmp_path / "partial.safetensors")
    loaded = FitResult.load(tmp_path / "partial.safetensors")
    assert_same_result(loaded, partial)
    assert loaded.interrupted


def test_the_file_is_plain_safetensors_with_the_permissions_of_any_other(saved: Path) -> None:
    (saved.parent / "other").write_text("")
    assert saved.stat().st_mode == (saved.parent / "other").stat().st_mode
    metadata = metadata_of(saved)
    assert metadata["format"] == "fractalops.fit.1"
    assert json.loads(metadata["config"])["maps"] == 3
    assert load_file(saved)["system.offset"].shape == (2, 3, 2)


def test_a_result_is_a_sequence_with_a_short_repr(result: FitResult) -> None:
    assert len(result) == 2
    assert [one.system.systems for one in result] == [1, 1]
    assert_same_result(result[-1], result.select(1))
    for wrong in (2, -3):
        with pytest.raises(IndexError, match=rf"^FitResult.select: index must lie in \[-2, 2\), got {wrong}$"):
            result[wrong]
    error = f"minimum MSE {float(result.minimum_mse.mean()):.4f}"
    assert repr(result) == f"FitResult(2 images of 8 x 6, 10 steps, {error})"
    assert repr(result[0]).startswith("FitResult(1 image of 8 x 6, ")


def rewritten(
    path: Path,
    metadata: dict[str, str | None] | None = None,
    tensors: dict[str, Tensor | None] | None = None,
    settings: dict[str, object] | None = None,
) -> None:
    """Replace some metadata, tensors and settings in the file of a result, or remove those that are None.

    The checksum stays correct.
    """

    def replaced(old: dict[str, Any], changes: dict[str, Any] | None) -> dict[str, Any]:
        return {name: value for name, value in (old | (changes or {})).items() if value is not None}

    content, old = read_tensors(path, "fractalops.fit.1")
    if settings is not None:
        metadata = {"config": json.dumps(replaced(json.loads(old["config"]), settings))}
    write_tensors(path, replaced(content, tensors), replaced(old, metadata))


def metadata_of(path: Path) -> dict[str, str]:
    with safetensors.safe_open(path, framework="pt") as file:
        return dict(file.metadata())


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def cut(path: Path, size: int) -> None:
    os.truncate(path, size if size >= 0 else path.stat().st_size + size)


BROKEN: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: path.unlink(),
    "a folder": become_folder,
    "empty": lambda path: path.write_bytes(b""),
    "the header cut": lambda path: cut(path, 100),
    "the tensors cut": lambda path: cut(path, -1),
    "random bytes": lambda path: path.write_bytes(bytes(range(256)) * 8),
    "text": lambda path: path.write_text("not a fractal\n" * 100),
    "a pickle": lambda path: path.write_bytes(pickle.dumps({"system": [1, 2, 3]})),
    "a torch file": lambda path: torch.save({"a": torch.ones(3)}, path),
    "foreign safetensors": lambda path: save_file({"a": torch.ones(3)}, path),
    "foreign metadata": lambda path: save_file({"a": torch.ones(3)}, path, {"format": "pt"}),
    "another version": lambda path: rewritten(path, {"format": "fractalops.fit.2"}),
    "a changed loss": lambda path: save_file(load_file(path) | {"losses": torch.ones(10, 2)}, path, metadata_of(path)),
    "no config": lambda path: rewritten(path, {"config": None}),
    "damaged config": lambda path: rewritten(path, {"config": '{"maps": 3,'}),
    "a list as config": lambda path: rewritten(path, {"config": "[1, 2]"}),
    "a number as config": lambda path: rewritten(path, {"config": "3"}),
    "a setting of a newer version": lambda path: rewritten(path, settings={"colors": 3}),
    "a setting out of range": lambda path: rewritten(path, settings={"steps": -3}),
    "a setting of a wrong type": lambda path: rewritten(path, settings={"maps": "many"}),
    "another parametrization": lambda path: rewritten(path, settings={"parametrization": "matrix"}),
    "no size": lambda path: rewritten(path, {"size": None}),
    "another size": lambda path: rewritten(path, {"size": "[9, 9]"}),
    "a size of one number": lambda path: rewritten(path, {"size": "8"}),
    "damaged seconds": lambda path: rewritten(path, {"seconds": "soon"}),
    "damaged steps of snapshots": lambda path: rewritten(path, {"snapshot_steps": "none"}),
    "a number as steps of snapshots": lambda path: rewritten(path, {"snapshot_steps": "3"}),
    "a broken number in the size": lambda path: rewritten(path, {"size": "[8.0, 6]"}),
    "a size of three numbers": lambda path: rewritten(path, {"size": "[8, 6, 1]"}),
    "a true size": lambda path: rewritten(path, {"size": "[true, 6]"}),
    "no pixels": lambda path: rewritten(path, {"size": "[0, 0]"}, tensors={"best_image": torch.ones(2, 0, 0)}),
    "no columns": lambda path: rewritten(path, {"size": "[8, 0]"}, tensors={"best_image": torch.ones(2, 8, 0)}),
    "a config of many levels": lambda path: rewritten(path, {"config": "[" * 100_000}),
    "no steps": lambda path: rewritten(path, {"steps": None}),
    "steps of fewer images": lambda path: rewritten(path, {"steps": "[10]"}),
    "steps in words": lambda path: rewritten(path, {"steps": '["10", "10"]'}),
    "fewer steps than losses": lambda path: rewritten(path, {"steps": "[9, 9]"}),
    "a setting beyond all floats": lambda path: rewritten(path, settings={"bandwidth": 10**400}),
    "broken steps of snapshots": lambda path: rewritten(path, {"snapshot_steps": "[0, 5.5, 10]"}),
    "steps of snapshots in words": lambda path: rewritten(path, {"snapshot_steps": '["0", "5", "10"]'}),
    "fewer steps than snapshots": lambda path: rewritten(path, {"snapshot_steps": "[0, 5]"}),
    "a missing setting": lambda path: rewritten(path, settings={"schedule": None}),
    "an interruption that is a number": lambda path: rewritten(path, {"interrupted": "1"}),
    "more steps than snapshots": lambda path: rewritten(path, {"snapshot_steps": "[0, 3, 5, 10]"}),
    "no offset": lambda path: rewritten(path, tensors={"system.offset": None}),
    "no parameters": lambda path: rewritten(path, tensors={"system.svd": None}),
    "an unknown parameter": lambda path: rewritten(path, tensors={"system.color": torch.ones(2)}),
    "parameters of another shape": lambda path: rewritten(path, tensors={"system.svd": torch.ones(2, 4, 6)}),
    "a flat offset": lambda path: rewritten(path, tensors={"system.offset": torch.ones(2)}),
    "an empty offset": lambda path: rewritten(path, tensors={"system.offset": torch.ones(0, 3, 2)}),
    "parameters of another dtype": lambda path: rewritten(path, tensors={"system.svd": torch.ones(2, 3, 6).double()}),
    "whole parameters": lambda path: rewritten(path, tensors={"system.offset": torch.ones(2, 3, 2).long()}),
    "a snapshot of another dtype": lambda path: rewritten(path, tensors={"snapshot.1.svd": torch.ones(2, 3, 6).half()}),
    "losses of another dtype": lambda path: rewritten(path, tensors={"losses": torch.ones(10, 2).double()}),
    "an image of another dtype": lambda path: rewritten(path, tensors={"best_image": torch.ones(2, 8, 6).byte()}),
    "no losses": lambda path: rewritten(path, tensors={"losses": None}),
    "losses of fewer images": lambda path: rewritten(path, tensors={"losses": torch.ones(10, 1)}),
    "errors of fewer images": lambda path: rewritten(path, tensors={"minimum_mse": torch.ones(1)}),
    "a flat image": lambda path: rewritten(path, tensors={"best_image": torch.ones(8, 6)}),
    "a snapshot without a parameter": lambda path: rewritten(path, tensors={"snapshot.1.svd": None}),
    "a snapshot of another shape": lambda path: rewritten(path, tensors={"snapshot.1.svd": torch.ones(1, 3, 6)}),
}


BROKEN_IN_COLOR: dict[str, dict[str, Any]] = {
    "gray by its settings": {"settings": {"color": False}},
    "without settings of color": {"settings": {"color": None}},
    "a word": {"settings": {"color": "red"}},
    "no colors": {"tensors": {"system.color": None}},
    "colors of two channels": {"tensors": {"system.color": torch.ones(2, 3, 2)}},
    "colors of fewer maps": {"tensors": {"system.color": torch.ones(2, 2, 3)}},
    "colors of another dtype": {"tensors": {"system.color": torch.ones(2, 3, 3).double()}},
    "a gray image": {"tensors": {"best_image": torch.ones(2, 8, 6)}},
    "a snapshot without colors": {"tensors": {"snapshot.1.color": None}},
}


REASONS = {
    "a changed loss": "it is damaged: its checksum is wrong$",
    "missing": "no such file or directory",
    "foreign safetensors": "its format must be fractalops.fit.1, got ",
    "another version": "its format must be fractalops.fit.1, got fractalops.fit.2$",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_no_result_is_refused_in_one_line(name: str, saved: Path) -> None:
    BROKEN[name](saved)
    reason = REASONS.get(name, r"\S")
    with pytest.raises(InputError, match=rf"^cannot read {saved}: .*{reason}") as caught:
        FitResult.load(saved)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("changes", BROKEN_IN_COLOR.values(), ids=BROKEN_IN_COLOR.keys())
def test_a_file_whose_colors_do_not_fit_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "system.safetensors"
    learned(color=True, snapshots=3).save(path)
    rewritten(path, **changes)
    with pytest.raises(InputError, match=rf"^cannot read {path}: it is damaged \(\S"):
        FitResult.load(path)


class Trap:
    """An object whose unpickling creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


def test_loading_runs_no_code(tmp_path: Path) -> None:
    trap = Trap(tmp_path / "sprung")
    pickle.loads(pickle.dumps(trap))
    assert trap.path.exists()
    trap.path.unlink()
    (tmp_path / "pickle").write_bytes(pickle.dumps(trap))
    torch.save({"trap": trap}, tmp_path / "torch")
    for name in ("pickle", "torch"):
        with pytest.raises(InputError):
            FitResult.load(tmp_path / name)
    assert not trap.path.exists()


def test_saving_to_a_missing_folder_is_refused(result: FitResult, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"the folder of path must exist, got .*missing"):
        result.save(tmp_path / "missing" / "system.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["disk full", "Ctrl-C"])
def test_a_save_that_fails_half_way_keeps_the_old_file(
    error: BaseException, result: FitResult, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def half(content: bytes) -> Iterator[bytes]:
        yield content[: len(content) // 2]
        raise error

    monkeypatch.setattr("fractalops.io.tensor_files._sort_metadata", half)
    for name in (saved, saved.parent / "new.safetensors"):
        with pytest.raises(type(error)):
            result.save(name)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_full_disk_is_an_os_error(result: FitResult, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Mock(side_effect=OSError(28, "No space left on device"))
    monkeypatch.setattr("fractalops.io.tensor_files._sort_metadata", full)
    with pytest.raises(OSError, match=rf"No space left on device: '{saved}'$"):
        result.save(saved)


def test_saving_replaces_the_old_file(saved: Path) -> None:
    other = fractalops.fit(bar(5, 5), tiny())
    other.save(saved)
    assert_same_result(FitResult.load(saved), other)
    assert list(saved.parent.iterdir()) == [saved]
