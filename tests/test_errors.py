"""The public exceptions: few enough to be told apart."""

from __future__ import annotations

import fractalops


def test_there_are_four_and_each_is_what_python_calls_its_kind() -> None:
    public = {name: getattr(fractalops, name) for name in fractalops.__all__}
    errors = {name: kind for name, kind in public.items() if isinstance(kind, type) and issubclass(kind, BaseException)}
    assert {name: kind.__base__ for name, kind in errors.items()} == {
        "BackendError": RuntimeError,
        "InputError": ValueError,
        "MissingExtra": ImportError,
        "RankError": RuntimeError,
    }
