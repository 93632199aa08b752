"""Tests of processes forked after several threads have drawn, in which OpenMP would wait for missing threads."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection

import pytest
import torch
from torch import Tensor

import fractalops
from fractalops import FractalDataset
from fractalops.backends import STATE
from tests.support.learning import targets, tiny
from tests.support.tolerances import assert_all_same_bits

pytestmark = [
    pytest.mark.usefixtures("native", "restored_threads"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
]

SECONDS = 120  # after which a process is assumed to wait forever


def draw(side: int) -> list[Tensor]:
    """Return images (32, side, side) of 256,000 points in all, and the gradient of the offsets."""
    generator = torch.Generator().manual_seed(0)
    matrix = 0.4 * torch.randn(3, 2, 2, generator=generator)
    index = torch.randint(3, (32, 8_000), generator=generator, dtype=torch.uint8)
    offset = torch.randn(3, 2, generator=generator).requires_grad_()
    image = fractalops.render(matrix, offset, index, side)
    return [image.detach(), *torch.autograd.grad(image.square().sum(), offset)]


def learn() -> list[Tensor]:
    result = fractalops.fit(targets(), tiny())
    return [result.losses, result.best_image]


def items() -> list[Tensor]:
    data = FractalDataset(2, 2, (224, 225), rendering="color", background="random", points=20_000)
    return [image for image, _ in data.__getitems__(range(4))]


def torch_alone() -> list[Tensor]:
    return [torch.arange(2**20).double().exp().sum()]


def in_fork(work: Callable[[], list[Tensor]]) -> tuple[int, list[Tensor]]:
    """Return the number of threads in a forked process and its result of `work`. Fail if it does not end."""

    def send(end: Connection) -> None:
        end.send_bytes(pickle.dumps((torch.get_num_threads(), [tensor.numpy() for tensor in work()])))

    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=send, args=(there,))
    process.start()
    try:
        assert here.poll(SECONDS), "it waits for threads"
        threads, arrays = pickle.loads(here.recv_bytes())
        return threads, [torch.from_numpy(array) for array in arrays]
    finally:
        process.kill()
        process.join()


@pytest.mark.parametrize(
    "work", [partial(draw, 32), partial(draw, 512), learn, items, torch_alone],
    ids=["small images", "large images", "learn", "items", "torch"],
)  # fmt: skip
def test_a_forked_process_draws_the_same_alone(work: Callable[[], list[Tensor]]) -> None:
    torch.set_num_threads(1)
    expected = work()
    torch.set_num_threads(4)
    draw(64)
    assert STATE.used_threads()
    threads, found = in_fork(work)
    assert threads == 1
    assert_all_same_bits(found, expected)
    assert torch.get_num_threads() == 4


def test_a_process_whose_threads_no_op_has_used_keeps_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(STATE, "used_threads", lambda: False)  # earlier tests have used threads
    torch.set_num_threads(3)
    threads, _ = in_fork(list)
    assert threads == 3
