"""Tests of notices about changes made while reading files: logging and collection."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from fractalops.data.targets import TensorTargets, open_targets
from fractalops.io import PictureOptions
from fractalops.io.images import read_image
from fractalops.io.notices import collect_notices


def test_notices_are_warnings_of_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.new("RGB", (4, 4), (90, 0, 0)).save(tmp_path / "red.png")
    read_image(tmp_path / "red.png")
    expected = ("fractalops.io", logging.WARNING, f"{tmp_path / 'red.png'}: colors are converted to gray")
    assert caplog.record_tuples == [expected]
    with collect_notices() as notices:
        for _ in range(2):
            read_image(tmp_path / "red.png")
    assert notices == {str(tmp_path / "red.png"): ["colors are converted to gray"]}
    assert caplog.record_tuples == [expected] * 3  # handlers also get collected notices
    caplog.clear()
    read_image(tmp_path / "red.png")
    assert caplog.record_tuples == [expected]


def test_a_notice_is_one_line_where_logging_is_not_set_up_and_none_where_it_is_collected(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (90, 0, 0)).save(tmp_path / "red.png")
    program = """
import sys
from fractalops.io.images import read_image
from fractalops.io.notices import collect_notices
read_image(sys.argv[1])
with collect_notices():
    read_image(sys.argv[1])
"""
    command = [sys.executable, "-c", program, str(tmp_path / "red.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == f"{tmp_path / 'red.png'}: colors are converted to gray\n"


def test_notices_of_a_data_set_are_not_warnings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A data set may cause thousands of notices, again on each read. `collect_notices` reports each once."""
    path = tmp_path / "0.png"
    for number in range(2):
        Image.new("L", (4, 4), 90).save(tmp_path / f"{number}.png")
    expected = {str(path): ["scaled from 4 x 4 to 3 x 3 pixels"]}
    source = open_targets([path, tmp_path / "1.png"], PictureOptions(size=3))
    with caplog.at_level(logging.WARNING):
        source[0]
    assert caplog.records == []
    with collect_notices() as notices:
        assert torch.equal(source[0], source[0])
    assert notices == expected
    with collect_notices() as notices:
        source = TensorTargets.from_iterable([numpy.ones((4, 4))])
    assert notices == {
        "image 0 of the iterable": [
            "the picture is mostly bright; if it shows a dark shape on a bright page, use invert=True"
        ]
    }


def test_other_records_of_the_logger_are_no_notices() -> None:
    with collect_notices() as notices:
        logging.getLogger("fractalops.io.files").warning("a lock is %s", "missing")
    assert notices == {}
