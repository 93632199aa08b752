"""Tests of the public exceptions, and of text from files in their messages."""

from __future__ import annotations

import pickle
import re

import pytest

import fractalops
from fractalops.errors import in_message, visible
from fractalops.io.files import one_line
from fractalops.io.notices import collect_notices, log_notices


def test_there_are_four_exceptions_with_builtin_bases() -> None:
    public = {name: getattr(fractalops, name) for name in fractalops.__all__}
    errors = {name: kind for name, kind in public.items() if isinstance(kind, type) and issubclass(kind, BaseException)}
    assert {name: kind.__base__ for name, kind in errors.items()} == {
        "BackendError": RuntimeError,
        "InputError": ValueError,
        "MissingExtra": ImportError,
        "RankError": RuntimeError,
    }


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Blätter 樹.png 8\\8", "Blätter 樹.png 8\\8"),
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("a\x9b31mb", r"a\x9b31mb"),  # the same as one character
        ("one\ntwo\rthree\0\t", r"one\ntwo\rthree\x00\t"),
        ("gnp\u202e.png", r"gnp\u202e.png"),  # would be shown reversed, as gnp.png
        ("\udcff.png", r"\udcff.png"),  # a byte that is not valid UTF-8
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_nothing_in_a_message_moves_a_terminal(text: str, shown: str) -> None:
    assert visible(text) == in_message(text) == shown
    assert str(fractalops.InputError(text)) == shown
    assert one_line(ValueError(f"a {text} b")).isprintable()


def test_long_parts_of_a_message_are_cut_in_their_middle() -> None:
    whole = 200 * "n"
    assert in_message(f"cannot read {188 * 'n'}: {whole}; {whole}") == f"cannot read {188 * 'n'}: {whole}; {whole}"
    cut = in_message(f"cannot read {300 * 'n'}.png: no such file; {10**6 * chr(27)}")
    name, reason, rest = re.split("[:;] ", cut)
    assert name == f"cannot read {85 * 'n'} ... {93 * 'n'}.png"
    assert reason == "no such file"
    assert len(rest) < 200
    assert in_message(cut) == cut


def test_notices_are_visible(caplog: pytest.LogCaptureFixture) -> None:
    with collect_notices() as collected:
        log_notices("a\x1b.png", ["says \x1b[2J"])
    assert collected == {"a\x1b.png": ["says \\x1b[2J"]}  # the name itself is unchanged
    assert caplog.messages == ["a\\x1b.png: says \\x1b[2J"]


def test_an_error_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(fractalops.InputError("a\x1b")))
    assert (type(error), str(error)) == (fractalops.InputError, "a\\x1b")
