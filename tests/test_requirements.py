"""Tests of FRACTALOPS_TEST_REQUIRE (a missing requirement fails tests or skips them), and of versions of tools."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.support.requirements import NAMES, ROOT, skip_or_fail

Skipped, Failed = pytest.skip.Exception, pytest.fail.Exception


@pytest.mark.parametrize(
    ("required", "outcome", "message"),
    [
        ("", Skipped, r"^no GPU$"),
        ("nvcc", Skipped, r"^no GPU$"),
        ("gpu", Failed, r"^FRACTALOPS_TEST_REQUIRE=gpu: no GPU$"),
        ("nvcc, gpu", Failed, r"^FRACTALOPS_TEST_REQUIRE=nvcc,gpu: no GPU$"),
    ],
)
def test_what_is_required_fails_and_the_rest_skips(
    required: str, outcome: type[BaseException], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRACTALOPS_TEST_REQUIRE", required)
    with pytest.raises(outcome, match=message):
        skip_or_fail("gpu", "no GPU")


def test_a_name_that_no_test_asks_for_is_refused_before_any_test_runs() -> None:
    environment = {**os.environ, "FRACTALOPS_TEST_REQUIRE": "nvcc, cuda"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert done.stderr == f"ERROR: FRACTALOPS_TEST_REQUIRE must list some of {', '.join(NAMES)}, got cuda\n\n"


def test_the_hooks_before_commits_have_the_versions_of_the_project() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    pinned = set(re.findall(r'"([\w-]+==[\d.]+)"', hooks))
    assert pinned
    assert pinned <= set(re.findall(r'"([\w-]+==[\d.]+)"', project))
