"""The examples do what they say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from fractalops.images import read_image

EXAMPLES = Path(__file__).parents[1] / "examples"


def load(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_target_files_are_what_the_script_draws(tmp_path: Path) -> None:
    script = load("draw_targets")
    script.main(tmp_path)
    for name in script.TARGETS:
        drawn, _ = read_image(tmp_path / f"{name}.png", size=64)
        kept, notices = read_image(EXAMPLES / f"{name}.png", size=64)
        assert kept.shape == (64, 64)
        assert notices == []
        # Another Pillow may round an edge differently.
        assert float((drawn - kept).abs().mean()) < 1e-3


def test_the_target_in_colour_is_what_the_script_draws(tmp_path: Path) -> None:
    load("draw_targets").main(tmp_path)
    drawn, _ = read_image(tmp_path / "autumn.png", size=64, colour=True)
    kept, notices = read_image(EXAMPLES / "autumn.png", size=64, colour=True)
    assert kept.shape == (3, 64, 64)
    assert notices == []
    assert float((drawn - kept).abs().mean()) < 1e-3
    assert (kept.amax(dim=(1, 2)) > 0.5).tolist() == [True, True, False]  # green, yellow and red: no blue


def test_both_versions_of_the_training_loop_learn_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    script = load("training_loop")
    target, _ = read_image(EXAMPLES / "leaf.png", size=script.SIZE)
    by_hand, _ = script.train(script.render_by_hand, target, 5)
    by_fractalops, _ = script.train(script.render_by_fractalops, target, 5)
    torch.testing.assert_close(torch.tensor(by_hand), torch.tensor(by_fractalops), atol=1e-5, rtol=1e-4)
    assert by_fractalops[-1] < by_fractalops[0]
    script.main(1)
    assert "speed-up" in capsys.readouterr().out
