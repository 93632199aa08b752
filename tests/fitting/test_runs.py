"""Tests of `fractalops.fit_dataset`: its results, the files in its folder, and the images that it refuses."""

from __future__ import annotations

import csv
import itertools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor

import fractalops
from fractalops import FitConfig, FitResult, FitRun, InputError
from fractalops.data.targets import TensorTargets
from fractalops.fitting import learning, run_report
from fractalops.fitting.native_steps import NativeSteps
from fractalops.fitting.run_folder import DatasetFolder
from fractalops.io.images import save_image
from tests.support.learning import Interruption, assert_same_result, finish, targets, tiny
from tests.support.runs import SYSTEM, Pictures, Stop, contents, interrupt, pictures, run, small
from tests.support.target_files import GRAY, KINDS, Writer
from tests.support.tolerances import assert_same_bits

pytestmark = pytest.mark.usefixtures("one_thread")


def learned_together(source: Pictures, images: Sequence[int], config: FitConfig) -> FitResult:
    """Return the result of these images of a source, learned in one batch."""
    targets = torch.stack([source[image] for image in images])  # (S, ...)
    return finish(learning.Batch.start(targets, config, images), config)


def read_csv(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_the_results_are_those_of_fit(tmp_path: Path) -> None:
    source = pictures(5)
    targets = torch.stack([source[image] for image in range(5)])  # (5, 8, 8)
    learned = run(tmp_path / "run", source, small(seed=3))
    expected = fractalops.fit(targets, small(seed=3))
    assert [row.index for row in learned.rows] == list(range(5))
    for row in learned.rows:
        assert_same_result(learned.result(row), expected.select(row.index))
    assert_same_bits(learned.minimum_mse, expected.minimum_mse)
    assert [result.system.systems for result in learned.results()] == [2, 2, 1]


def test_the_index_says_what_and_where(tmp_path: Path) -> None:
    learned = run(tmp_path / "run")
    table = read_csv(tmp_path / "run" / "index.csv")
    assert table[0] == ["index", "name", "label", "shard", "place", "minimum_mse", "mean_mse", "steps", "seconds"]
    assert table[4][:5] == ["3", "pictures/3.png", "odd", "systems/00001.safetensors", "1"]
    assert len(table) == 6
    for row in learned.rows:
        result = FitResult.load(tmp_path / "run" / row.shard).select(row.place)
        assert torch.tensor(row.minimum_mse, dtype=torch.float32) == result.minimum_mse[0]
        assert torch.tensor(row.mean_mse, dtype=torch.float32) == result.mean_mse[0]
        assert row.steps == 10
        assert row.seconds > 0
    assert FitRun.load(tmp_path / "run").rows == learned.rows
    assert not learned.interrupted
    assert len(learned) == 5
    assert_same_result(learned[-2], learned.result(learned.rows[3]))
    with pytest.raises(IndexError, match=r"^FitRun: index must lie in \[-5, 5\), got 5$"):
        learned[5]
    error = f"minimum MSE {learned.minimum_mse.mean():.4f}"
    assert repr(learned) == f"FitRun('{tmp_path / 'run'}', 5 images, {error})"


def test_the_record_holds_all_that_the_run_depends_on(tmp_path: Path) -> None:
    run(tmp_path / "run", config=small(seed=2**63 - 1, viewport=(-1, -2, 3, 4)))
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["config"]["seed"] == 2**63 - 1
    assert record["config"]["viewport"] == [-1, -2, 3, 4]
    assert set(record["versions"]) == {"fractalops", "torch", "python"}
    assert (record["targets"], record["images"], record["bad_images"], record["device"]) == ("pictures", 5, 0, "cpu")
    assert set(record["backends"].values()) <= {"native", "reference"}
    assert len(record["pictures"]) == 64


def test_a_run_leaves_these_files_and_no_others_and_is_not_learned_again(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = [f"systems/0000{batch}.safetensors" for batch in range(3)]
    assert set(whole) == {"run.json", "index.csv", "contact.png", *shards}
    learned = run(tmp_path)
    assert contents(tmp_path) == whole
    assert sorted(path.name for path in (tmp_path / "seconds").iterdir()) == [f"0000{g}.txt" for g in range(3)]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    Interruption(0).install(monkeypatch)
    assert run(tmp_path).rows == learned.rows
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == before


def test_images_of_one_shape_are_learned_together_in_their_order(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    targets = [torch.rand(shape, generator=generator) for shape in [(8, 8), (4, 6), (8, 8), (8, 8), (4, 6), (3, 3)]]
    source, config = Pictures(targets), small(seed=5)
    learned = run(tmp_path / "run", source, config)
    places = [(row.shard[-17:-12], row.place) for row in learned.rows]
    assert places == [("00000", 0), ("00001", 0), ("00000", 1), ("00002", 0), ("00001", 1), ("00003", 0)]
    together = learned.system()  # one module, in the order of the index, not of the files
    assert together.systems == 6
    for row in learned.rows:
        alone = learned.result(row).system
        assert repr(alone) == repr(together).replace("systems=6", "systems=1")
        for name, tensor in alone.state_dict().items():
            assert_same_bits(together.state_dict()[name][row.index], tensor[0])
    for result, images in zip(learned.results(), [(0, 2), (1, 4), (3,), (5,)], strict=True):
        assert_same_result(result, learned_together(source, images, config))
    with Image.open(tmp_path / "run" / "contact.png") as sheet:
        assert sheet.mode == "L"


@pytest.mark.parametrize(("count", "tiles"), [(1, (1, 1)), (5, (2, 3)), (130, (7, 15))])
def test_the_contact_sheet_shows_up_to_a_hundred_pairs(count: int, tiles: tuple[int, int], tmp_path: Path) -> None:
    run(tmp_path / "run", pictures(count, color=True), tiny(steps=1, color=True, batch_size=50))
    with Image.open(tmp_path / "run" / "contact.png") as sheet:
        assert sheet.mode == "RGB"
        width, height = 2 * 64 + 3, 64 + 2  # of a pair in its frame
        assert sheet.size == (tiles[0] * (width + 4) + 4, tiles[1] * (height + 4) + 4)


def test_the_sheet_shows_the_target_beside_its_image(tmp_path: Path) -> None:
    source = pictures(1)
    learned = run(tmp_path / "run", source)
    with Image.open(tmp_path / "run" / "contact.png") as sheet:
        pixels = numpy.array(sheet)
    for left, image in ((5, source[0]), (70, learned.result(learned.rows[0]).best_image[0])):
        assert pixels[5:69:8, left : left + 64 : 8].tolist() == image.mul(255).round().tolist()


def test_memory_holds_a_batch_however_many_images_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_report, "_SHOWN", 3)
    source = pictures(60)
    run(tmp_path / "run", source, tiny(steps=1, batch_size=4))
    assert source.reads[:60] == list(range(60))  # first, all are read one by one
    assert source.reads[60:120] == list(range(60))  # each is read once for learning
    assert source.reads[120:] == [0, 20, 40]  # those on the sheet
    assert source.most_alive <= 5


def test_a_path_and_a_tensor_are_sources_too(tmp_path: Path) -> None:
    targets = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)).mul(255).round().div(255)
    expected = fractalops.fit(targets, small())
    assert_same_bits(run(tmp_path / "tensor", targets).minimum_mse, expected.minimum_mse)
    (tmp_path / "pictures").mkdir()
    for image, target in enumerate(targets):
        save_image(target, tmp_path / "pictures" / f"{image}.png")
    for path in (tmp_path / "pictures", str(tmp_path / "pictures")):
        learned = run(tmp_path / "folder", path)
        assert [row.name for row in learned.rows] == ["0.png", "1.png", "2.png"]
        assert_same_bits(learned.minimum_mse, expected.minimum_mse)


def test_bad_images_are_all_listed_at_once_and_left_out_where_that_is_wanted(tmp_path: Path) -> None:
    listed = r"cannot read pictures/1.png: it is damaged; cannot read pictures/4.png: it is damaged"
    with pytest.raises(InputError, match=rf"^cannot use 2 of 6 images; skip_bad=True leaves them out: {listed}$"):
        run(tmp_path / "run", pictures(6, bad=[1, 4]))
    assert not (tmp_path / "run").exists()
    learned = run(tmp_path / "run", pictures(6, bad=[1, 4]), skip_bad=True)
    assert [row.index for row in learned.rows] == [0, 2, 3, 5]
    assert read_csv(tmp_path / "run" / "bad.csv") == [
        ["image", "name", "reason"],
        ["1", "pictures/1.png", "cannot read pictures/1.png: it is damaged"],
        ["4", "pictures/4.png", "cannot read pictures/4.png: it is damaged"],
    ]
    for result, images in zip(learned.results(), [(0, 2), (3, 5)], strict=True):  # they keep their indices
        assert_same_result(result, learned_together(pictures(6), images, small()))


@pytest.mark.parametrize("skip_bad", [True, False])
def test_nothing_but_bad_images_is_refused(skip_bad: bool, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"^cannot use 2 of 2 images: cannot read pictures/0.png: .*1.png: it is damaged$"
    ):
        run(tmp_path / "run", pictures(2, bad=[0, 1]), skip_bad=skip_bad)
    with pytest.raises(InputError, match=r"^cannot use pictures: it contains no images$"):
        run(tmp_path / "run", Pictures([]), skip_bad=skip_bad)


def test_targets_of_a_wrong_kind_are_bad_images(tmp_path: Path) -> None:
    wrong = [torch.ones(8, 8) * 2, torch.full((8, 8), torch.nan), torch.ones(3, 8, 8), torch.ones(8, 8)]
    with pytest.raises(InputError, match=r"^cannot use 3 of 4 images") as caught:
        run(tmp_path / "run", Pictures(wrong))
    for number in range(3):
        assert f"cannot use pictures/{number}.png: targets must " in str(caught.value)


def test_an_image_that_turns_bad_stops_the_run_which_can_go_on(tmp_path: Path, whole: dict[str, bytes]) -> None:
    source = pictures()
    read = source._read

    def fail_later(index: int) -> Tensor:
        if len(source.reads) > 7:
            raise InputError("cannot read pictures/3.png: it is gone")
        return read(index)

    source._read = fail_later  # type: ignore[method-assign]
    with pytest.raises(InputError, match=r"it is gone$"):
        run(tmp_path / "run", source)
    run(tmp_path / "run")
    assert contents(tmp_path / "run") == whole


class Numbered(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """A data set like torchvision's: pairs by index, without an `IndexError` at its end."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return targets()[number % 3][None], number  # (1, 16, 16), torchvision's shape of a gray picture


@pytest.mark.parametrize(
    ("source", "labels"),
    [
        (targets, [""] * 3),
        (lambda: (image for image in targets()), [""] * 3),
        (lambda: ((image, label) for label, image in enumerate(targets())), ["0", "1", "2"]),
        (Numbered, ["0", "1", "2"]),
    ],
    ids=["tensor", "generator", "pairs", "data set"],
)
def test_what_is_iterable_is_a_source(source: Callable[[], Any], labels: list[str], tmp_path: Path) -> None:
    learned = run(tmp_path / "run", source(), tiny())
    assert [row.label for row in learned.rows] == labels
    assert_same_bits(learned.minimum_mse, fractalops.fit(targets(), tiny()).minimum_mse)


@pytest.mark.parametrize("write", KINDS, ids=lambda write: write.__name__)
def test_every_kind_of_file_gives_the_same_run(tmp_path: Path, write: Writer) -> None:
    learned = run(tmp_path / "run", write(tmp_path, GRAY), tiny(steps=2))
    source = TensorTargets.from_iterable(GRAY)
    expected = run(tmp_path / "expected", source, tiny(steps=2))
    assert [row.index for row in learned.rows] == [0, 1, 2, 3, 4]
    torch.testing.assert_close(learned.minimum_mse, expected.minimum_mse)


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"^fit_dataset: config must be a FitConfig, got dict$"):
        fractalops.fit_dataset(pictures(), tmp_path / "run", {"steps": 3})  # type: ignore[arg-type]
    with pytest.raises(
        TypeError,
        match=r"^fit_dataset: targets must be a path, a TargetDataset, a tensor, an iterable or a data set, got int$",
    ):
        run(tmp_path / "run", 5)
    batches: Any = torch.utils.data.DataLoader(Numbered())
    iterable = r"pictures must be Pillow images, arrays or tensors, got list for picture 0$"
    with pytest.raises(TypeError, match=rf"^TensorTargets.from_iterable: {iterable}"):
        run(tmp_path / "run", batches)
    for wrong in (-1, float("nan")):
        with pytest.raises(
            ValueError, match=r"^fit_dataset: checkpoint_every must be a finite number at least 0, got "
        ):
            run(tmp_path / "run", checkpoint_every=wrong)
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_not_finished_can_not_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=rf"^cannot read {tmp_path / 'run.json'}: "):
        FitRun.load(tmp_path)
    interrupt(tmp_path, monkeypatch)
    with pytest.raises(InputError, match=r"index.csv: the run is not finished; "):
        FitRun.load(tmp_path)
    run(tmp_path)
    assert len(FitRun.load(tmp_path).rows) == 5
    (tmp_path / "index.csv").write_text("image,name\n0,1\n")
    with pytest.raises(InputError, match=r"^cannot read .*index.csv: "):
        _ = FitRun.load(tmp_path).rows
    (tmp_path / SYSTEM).unlink()  # so that a batch must be learned again
    interrupt(tmp_path, monkeypatch, step=3)
    with pytest.raises(InputError, match=r"index.csv: the run is not finished; "):
        FitRun.load(tmp_path)


def test_a_batch_that_is_deleted_is_learned_anew(tmp_path: Path, whole: dict[str, bytes]) -> None:
    run(tmp_path / "run")
    (tmp_path / "run" / SYSTEM).unlink()
    (tmp_path / "run" / "seconds" / "00001.txt").unlink()
    learned = run(tmp_path / "run")
    assert contents(tmp_path / "run") == whole
    assert [row.seconds > 0 for row in learned.rows] == [True, True, False, False, True]  # NaN: these times are lost


def test_batches_under_way_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(tmp_path, monkeypatch)
    (tmp_path / SYSTEM).unlink()
    source = pictures()
    run(tmp_path, source)
    assert source.reads[5:10] == [2, 3, 0, 1, 4]


def test_the_seconds_before_an_interruption_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take = NativeSteps.__call__
    with monkeypatch.context() as patched:
        patched.setattr(NativeSteps, "__call__", lambda *arguments: (time.sleep(0.4), take(*arguments))[1])
        interrupt(tmp_path, monkeypatch, step=3)
    run(tmp_path)
    first, second = (DatasetFolder(tmp_path).read_seconds(batch) for batch in (0, 1))
    assert first > 1.2
    assert second < first


def test_progress_shows_the_images(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(tmp_path / "run", progress=True)
    shown = capfd.readouterr().err
    assert "5/5" in shown
    assert "image/s" in shown or "s/image" in shown
    run(tmp_path / "other")
    assert capfd.readouterr() == ("", "")


def test_what_was_learned_before_an_interruption_takes_no_time_of_the_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []

    def draw(bar: Any, *arguments: Any, **options: Any) -> None:
        shown.append((bar.initial, bar.n))

    interrupt(tmp_path, monkeypatch, step=15)  # one batch of 2 learned, half of the next
    monkeypatch.setattr("tqdm.tqdm.set_postfix", draw)
    monkeypatch.setattr("time.monotonic", itertools.count(1).__next__)
    run(tmp_path, progress=True)
    assert shown[0] == (3, 3.2)  # after the first step of ten
    assert [n for _, n in shown] == sorted(n for _, n in shown)
    assert {initial for initial, _ in shown} == {3}


def test_learns_under_no_grad_and_inference_mode(tmp_path: Path, whole: dict[str, bytes]) -> None:
    with torch.no_grad():
        run(tmp_path / "no_grad")
    with torch.inference_mode():
        run(tmp_path / "inference")
    assert contents(tmp_path / "no_grad") == contents(tmp_path / "inference") == whole


def test_the_defaults_are_those_of_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fractalops.fitting.runs.run_steps", learn := Mock(side_effect=Stop))
    with pytest.raises(Stop):
        fractalops.fit_dataset(pictures(), tmp_path / "run", device="cpu")
    assert learn.call_args.args[1] == FitConfig().resolve((16, 16))
