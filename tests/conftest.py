"""What all tests share: the backends, poisoned buffers, threads, hypothesis made deterministic; and a finished run."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

from tests.support.requirements import check_required

# Without a GPU the Triton kernels run in their interpreter, which must be known before Triton is imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# The environment may say `reference` where the native library isn't built; otherwise its absence fails tests.
BACKENDS = os.environ.get("FRACTALOPS_TEST_BACKENDS", "reference,native").split(",")

# One fork server serves all tests of a process, and imports these modules once, whichever test starts it.
multiprocessing.set_forkserver_preload(
    ["tests.support.command_runs", "matplotlib.pyplot", "fractalops.experiments.pretrain"]
)

settings.register_profile("deterministic", derandomize=True, deadline=None, max_examples=25, database=None)
settings.load_profile("deterministic")


def pytest_configure() -> None:
    check_required()


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """Files are not written through to the disk, which takes longer than most tests: no machine fails meanwhile."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test on each backend in turn; one that can't run fails it with the package's own error."""
    from fractalops import use_backend

    with use_backend(request.param):
        yield request.param


@pytest.fixture
def native() -> str:
    """For tests of what only the native backend promises (bits, raw ops); loads the library."""
    if "native" not in BACKENDS:
        pytest.skip("FRACTALOPS_TEST_BACKENDS leaves out native")
    import fractalops

    one = torch.ones(1, 1, 2)
    fractalops.affine_chain(torch.eye(2)[None], one[0], torch.zeros(1, 1, dtype=torch.uint8), one[0], backend="native")
    return "native"


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Uninitialized buffers hold NaN, so that whatever an op forgets to write shows."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    yield
    torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture
def restored_threads() -> Iterator[None]:
    """Lets a test change the number of threads."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def one_thread(restored_threads: None) -> None:
    """Threads change no bit, and wait for one another where a machine has other work."""
    torch.set_num_threads(1)


@pytest.fixture
def one_step_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The native loop comes back after every step."""
    monkeypatch.setattr("fractalops.fitting.learning._CHUNK", 0.0)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a small run of `fit_dataset` that nothing interrupted."""
    from tests.support.runs import contents, run

    folder = tmp_path_factory.mktemp("whole") / "run"
    run(folder)
    return contents(folder)
