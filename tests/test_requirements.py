"""FRACTALOPS_TEST_REQUIRE: what a test lacks skips it, or fails it where it must be there."""

from __future__ import annotations

import pytest

from tests.requirements import skip_or_fail

Skipped, Failed = pytest.skip.Exception, pytest.fail.Exception


@pytest.mark.parametrize(
    ("required", "outcome", "message"),
    [
        ("", Skipped, r"^no GPU$"),
        ("nvcc", Skipped, r"^no GPU$"),
        ("gpu", Failed, r"^FRACTALOPS_TEST_REQUIRE=gpu: no GPU$"),
        ("nvcc, gpu", Failed, r"^FRACTALOPS_TEST_REQUIRE=nvcc,gpu: no GPU$"),
        ("cuda", Failed, r"^FRACTALOPS_TEST_REQUIRE must list some of nvcc, gpu, got cuda$"),
    ],
)
def test_what_is_required_fails_and_the_rest_skips(
    required: str, outcome: type[BaseException], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRACTALOPS_TEST_REQUIRE", required)
    with pytest.raises(outcome, match=message):
        skip_or_fail("gpu", "no GPU")
