"""Fixtures of all tests: backends, poisoned buffers, threads, a finished run. Hypothesis is made deterministic."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

from tests.support.requirements import check_required

# Without a GPU, the Triton kernels run in their interpreter. It must be chosen before Triton is imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# The environment can select only `reference` if the native library is not built. Otherwise, tests fail without it.
BACKENDS = os.environ.get("FRACTALOPS_TEST_BACKENDS", "reference,native").split(",")

# One fork server serves all tests of a process. It imports these modules once, for whichever test starts it.
multiprocessing.set_forkserver_preload(
    ["tests.support.command_runs", "matplotlib.pyplot", "fractalops.experiments.pretrain"]
)

settings.register_profile("deterministic", derandomize=True, deadline=None, max_examples=25, database=None)
settings.load_profile("deterministic")


def pytest_configure() -> None:
    check_required()


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """Disable writing through to the disk, which takes longer than most tests. No machine fails during the tests."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test on each backend. A backend that cannot run fails the test with the package's error."""
    from fractalops import use_backend

    with use_backend(request.param):
        yield request.param


@pytest.fixture
def native() -> str:
    """Load the native library, for tests of properties that only this backend has (bits, raw ops)."""
    if "native" not in BACKENDS:
        pytest.skip("FRACTALOPS_TEST_BACKENDS leaves out native")
    import fractalops

    one = torch.ones(1, 1, 2)
    fractalops.affine_chain(torch.eye(2)[None], one[0], torch.zeros(1, 1, dtype=torch.uint8), one[0], backend="native")
    return "native"


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Fill uninitialized buffers with NaN, so that values that an op does not write are noticed."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    yield
    torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture
def restored_threads() -> Iterator[None]:
    """Restore the number of threads after a test that changes it."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def one_thread(restored_threads: None) -> None:
    """Use one thread. More threads change no bit, but wait for each other on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture
def one_step_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the native loop return after every step."""
    monkeypatch.setattr("fractalops.fitting.learning._CHUNK", 0.0)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the files of an uninterrupted small run of `fit_dataset`."""
    from tests.support.runs import contents, run

    folder = tmp_path_factory.mktemp("whole") / "run"
    run(folder)
    return contents(folder)
