"""`fit`: learn systems for one image or for many images by gradient descent (paper section 4.4, appendix A.1)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from fractalops._checks import is_auto, or_default
from fractalops.fitting.config import FitConfig
from fractalops.fitting.initialization import first_parameters, start_parameters
from fractalops.fitting.native_steps import NativeSteps, check_native
from fractalops.fitting.optimizers import Optimizer, make_optimizer
from fractalops.fitting.result import FitResult, add_prefix, join, number_snapshots, restore_system, with_prefix
from fractalops.fitting.splitting import split_maps
from fractalops.fitting.step_graph import CudaGraph, check_cuda_graph, run_as_graph
from fractalops.fitting.targets import check_targets, settings_for
from fractalops.ifs import IFS
from fractalops.io.progress import progress_bar
from fractalops.ops.clamped_squared_error import clamped_squared_error
from fractalops.reference.without_autocast import in_float32

Loss = Callable[[Tensor, Tensor], Tensor]

_logger = logging.getLogger("fractalops")


def squared_error(images: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error of each system, (S,).

    Args:
        images: (S, K, H, W) or (S, K, C, H, W).
        targets: (S, 1, H, W) or (S, 1, C, H, W).
    """
    return (images - targets).square().mean(dim=tuple(range(1, images.dim())))


def _check_losses(losses: object, systems: int) -> Tensor:
    """Check the result of a custom loss: a differentiable value for each system, or the sum of these values."""
    expected = f"fit: loss must return a tensor of shape ({systems},) or ()"
    if not isinstance(losses, Tensor):
        raise TypeError(f"{expected}, got {type(losses).__name__}")
    if losses.shape not in ((), (systems,)):
        raise ValueError(f"{expected}, got {tuple(losses.shape)}")
    if not losses.requires_grad:
        raise ValueError(f"{expected} that depends differentiably on the images, got one without a gradient")
    return losses


@dataclass
class Batch:
    """Images that are learned together. Each image has its own generator, so that no image depends on the others."""

    targets: Tensor  # (S, H, W), or (S, C, H, W) in color
    system: IFS
    generators: list[torch.Generator]
    optimizer: Optimizer
    index: Tensor | None  # (S, K, T), the sequences of all steps; None draws new ones at each step
    # One tensor for all steps. A small tensor that is kept at each step would occupy memory that the step's large
    # tensors have freed. The next large tensors would not fit there, and the memory would grow with each step.
    losses: Tensor  # (steps, S); the first `step` rows are valid
    step: int = 0  # number of steps that were run
    snapshots: list[dict[str, Tensor]] = field(default_factory=list)

    @classmethod
    def start(
        cls, targets: Tensor, config: FitConfig, images: Sequence[int], first: dict[str, Tensor] | None = None
    ) -> Batch:
        """Return the batch before its first step.

        Args:
            targets: (S, H, W) or (S, 3, H, W).
            config: Resolved settings.
            images: The numbers of the S images, which determine the seeds.
            first: Initial parameters, (S, ...). None follows `config.initialization`.
        """
        generators = [
            torch.Generator(device=targets.device).manual_seed((config.seed + image) % 2**63) for image in images
        ]
        system = restore_system(first or first_parameters(targets, config, generators), config)
        index = None
        if config.objective == "fixed":
            index = system.sample(config.sequences, config.points, generator=generators)
        losses = targets.new_empty(config.steps, len(targets))  # (steps, S)
        return cls(targets, system, generators, _make_optimizer(system, config), index, losses)

    def state(self) -> dict[str, Tensor]:
        """Return the state of the batch, as copies on the CPU. `restore` resumes learning from it."""
        state = add_prefix("system.", self.system.state_dict()) | number_snapshots(self.snapshots)
        for name, tensors in self.optimizer.state.items():
            state |= {f"optimizer.{name}.{place}": tensor for place, tensor in enumerate(tensors)}
        state["generators"] = torch.stack([generator.get_state() for generator in self.generators])  # (S, bytes)
        if self.index is not None:
            state["index"] = self.index
        if self.step:
            state["losses"] = self.losses[: self.step]  # (step, S)
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}

    @classmethod
    def restore(cls, targets: Tensor, config: FitConfig, state: dict[str, Tensor]) -> Batch:
        """Return the batch with a state that `state` returned.

        Its results have the same bits as without the interruption.

        Raises:
            KeyError, RuntimeError: If the state belongs to another kind of batch.
        """
        generators = [torch.Generator(device=targets.device) for _ in state["generators"]]
        for generator, row in zip(generators, state["generators"], strict=True):
            generator.set_state(row.clone())
        placed = {name: tensor.to(targets.device, copy=True) for name, tensor in state.items() if name != "generators"}
        system = restore_system(with_prefix(placed, "system."), config)
        optimizer = _make_optimizer(system, config)
        for name, tensors in optimizer.state.items():
            for place, tensor in enumerate(tensors):
                tensor.copy_(placed[f"optimizer.{name}.{place}"])
        snapshots: list[dict[str, Tensor]] = []
        while snapshot := with_prefix(placed, f"snapshot.{len(snapshots)}."):
            snapshots.append(snapshot)
        run = placed.get("losses", targets.new_empty(0, len(targets)))  # (step, S)
        losses = targets.new_empty(config.steps, len(targets))  # (steps, S)
        losses[: len(run)] = run
        return cls(targets, system, generators, optimizer, placed.get("index"), losses, len(run), snapshots)

    def render(self, sequences: int, index: Tensor | None, config: FitConfig, clamp: bool) -> Tensor:
        """Return images (S, K, ...) of the systems, drawn from new sequences or from `index` (S, K, T)."""
        images: Tensor = self.system(
            tuple(self.targets.shape[-2:]),
            sequences=sequences,
            points=config.points,
            index=index,
            generator=self.generators,
            clamp=clamp,
        )  # (S, K, H, W) or (S, K, C, H, W)
        return images if config.color or images.dim() == 4 else images[:, :, 0]

    def keep_snapshot(self) -> None:
        """Append a copy of the parameters to `snapshots`."""
        self.snapshots.append({name: tensor.clone() for name, tensor in self.system.state_dict().items()})


def _make_optimizer(system: IFS, config: FitConfig) -> Optimizer:
    names = [name for name, _ in system.named_parameters()]
    rates = [config.offset_rate if name == "offset" else 1.0 for name in names]
    return make_optimizer(list(system.parameters()), config, rates)


def clip_gradients(parameters: Iterable[torch.nn.Parameter], limit: float) -> None:
    """Scale the gradient of each system to a norm of at most `limit`, separately for each system."""
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]  # each (S, N, ...)
    flat = torch.cat([grad.flatten(1) for grad in grads], dim=1)  # (S, parameters)
    factor = (limit / (torch.linalg.vector_norm(flat, dim=1, dtype=torch.float64) + 1e-6)).clamp_(max=1)  # (S,)
    for grad in grads:
        grad.mul_(factor.to(grad.dtype).view(-1, *[1] * (grad.dim() - 1)))


def _add_noise(batch: Batch, config: FitConfig) -> None:
    """Add Gaussian noise to the parameters of the matrices, to escape poor local minima (paper section 4.4)."""
    target = batch.system.svd if config.parametrization == "svd" else batch.system.matrix  # (S, N, ...)
    with torch.no_grad():
        for system, generator in zip(target, batch.generators, strict=True):
            system += config.noise * torch.randn(
                system.shape, generator=generator, dtype=torch.float32, device=system.device
            )


# Time limit of one call of the native loop, in seconds. Between calls, the clock is read, the progress is shown and
# interruptions are handled. The limit changes no result.
_CHUNK = 0.05

# Takes one step for each learning rate, modifies the batch, and returns the losses (steps, S).
Steps = Callable[[list[float]], Tensor]


def choose_loop(batch: Batch, config: FitConfig, loss: Loss | None, cuda_graph: CudaGraph) -> tuple[Steps, bool]:
    """Return the function that takes the steps, and whether it is the native loop.

    The native loop is used if the batch allows it. Otherwise, the function uses tensor operations and must be called
    for one step at a time; the log gives the reason.
    """
    reason = check_native(batch.targets, config, loss is not None)
    if not reason:
        native = NativeSteps(batch.targets, batch.system, batch.optimizer, batch.generators, batch.index, config)
        return native, True
    _logger.info("fit: steps use tensor operations: %s", reason)
    step = _tensor_step(batch, config, loss, cuda_graph)
    return lambda rates: step(rates[0])[None], False


def run_steps(batch: Batch, config: FitConfig, loss: Loss | None, cuda_graph: CudaGraph) -> Iterator[Tensor]:
    """Run the remaining steps of a batch.

    Yields:
        The losses (steps, S) of the steps since the last yield: one step, or with the native loop as many as it takes
        in 50 ms. The state of the batch already includes them.
    """
    take, native = choose_loop(batch, config, loss, cuda_graph)
    stops = set(config.snapshot_steps())
    if batch.step == 0 and 0 in stops:
        batch.keep_snapshot()
    most = 1  # largest number of steps of the next call

    def changes_after(step: int) -> bool:
        return config.adds_noise_at(step) or config.splits_at(step)

    while batch.step < config.steps:
        end = batch.step + 1
        while end < min(batch.step + most, config.steps) and end not in stops and not changes_after(end - 1):
            end += 1
        began = time.perf_counter()
        losses = take([config.learning_rate_at(number) for number in range(batch.step, end)])  # (steps, S)
        if native:
            seconds = max(time.perf_counter() - began, 1e-9)
            most = max(1, min(2 * most, int((end - batch.step) * _CHUNK / seconds)))
        if config.adds_noise_at(end - 1):
            _add_noise(batch, config)
        if config.splits_at(end - 1):
            split_maps(batch.system, batch.targets, config.points, batch.generators, batch.optimizer)
        if end in stops:
            batch.keep_snapshot()
        batch.losses[batch.step : end] = losses
        batch.step = end  # these steps are done
        yield losses


def _tensor_step(
    batch: Batch, config: FitConfig, loss: Loss | None, cuda_graph: CudaGraph
) -> Callable[[float], Tensor]:
    """Return a function that takes one step at a learning rate by tensor operations, and returns its losses (S,)."""
    parameters = list(batch.system.parameters())
    targets = batch.targets[:, None]  # (S, 1, ...)
    fused = loss is None and config.clamp

    def step(rate: float | Tensor) -> Tensor:
        images = batch.render(config.sequences, batch.index, config, config.clamp and not fused)  # (S, K, ...)
        losses: Tensor  # (S,) or ()
        if loss is not None:
            losses = _check_losses(loss(images, targets), len(targets))
        else:
            losses = clamped_squared_error(images, batch.targets) if fused else squared_error(images, targets)
        for parameter in parameters:
            parameter.grad = None
        torch.autograd.backward(losses, torch.ones_like(losses))
        if config.gradient_clip is not None:
            clip_gradients(parameters, config.gradient_clip)
        batch.optimizer(rate)
        return losses.detach().expand(len(targets))

    return run_as_graph(step, batch.generators, targets.device, cuda_graph, loss is not None)


def _evaluate(batch: Batch, config: FitConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Return minimum and mean MSE (S,) over new sequences, and the best images (S, ...) (paper section 5.2)."""
    with torch.no_grad():
        images = batch.render(config.evaluation_sequences, None, config, True)  # (S, K, ...)
        errors = (images - batch.targets[:, None]).square_().mean(dim=tuple(range(2, images.dim())))  # (S, K)
        minimum, best = errors.min(dim=1)
        return minimum, errors.mean(dim=1), images[torch.arange(len(images), device=best.device), best]


def evaluate_batches(batches: list[Batch], config: FitConfig, began: float, *, interrupted: bool = False) -> FitResult:
    """Evaluate the systems of the batches, and return one result. The batches may be interrupted."""
    measures = [_evaluate(batch, config) for batch in batches]
    steps = max(batch.step for batch in batches)
    taken = [step for step in config.snapshot_steps() if step <= steps]
    # After an interruption, batches have different numbers of steps and snapshots. Missing values are NaN.
    losses = []
    for batch in batches:
        column = batch.targets.new_full((steps, len(batch.targets)), torch.nan)  # (steps, S)
        column[: batch.step] = batch.losses[: batch.step]
        losses.append(column)
        while len(batch.snapshots) < len(taken):
            state = batch.system.state_dict()
            batch.snapshots.append({name: torch.full_like(tensor, torch.nan) for name, tensor in state.items()})
    return FitResult(
        system=restore_system(join([batch.system.state_dict() for batch in batches]), config),
        config=config,
        size=(batches[0].targets.shape[-2], batches[0].targets.shape[-1]),
        steps=[batch.step for batch in batches for _ in batch.targets],
        losses=torch.cat(losses, dim=1),
        minimum_mse=torch.cat([minimum for minimum, _, _ in measures]),
        mean_mse=torch.cat([mean for _, mean, _ in measures]),
        best_image=torch.cat([image for _, _, image in measures]),
        seconds=time.perf_counter() - began,
        snapshot_steps=taken,
        snapshots=[join([batch.snapshots[i] for batch in batches]) for i in range(len(taken))],
        interrupted=interrupted,
    )


@in_float32
def fit(
    targets: Tensor,
    config: FitConfig | None = None,
    *,
    start: IFS | None = None,
    loss: Loss | None = None,
    progress: bool = False,
    cuda_graph: CudaGraph = "auto",
) -> FitResult:
    """Learn an iterated function system for each target image by gradient descent.

    The loss of a system with matrices A and offsets b is the mean squared error of the pixels, in expectation over
    random index sequences z (paper, equations 5 and 9):

        loss(A, b) = E_z[mean((render(A, b, z) - target)^2)]

    Each step draws new sequences, renders them, and updates the parameters with Adam. `FitConfig` describes the
    settings, which include the fixed sequences (equation 9) and SGD.

    On the CPU, the steps run in a native loop if the settings allow it. Otherwise they run as tensor operations, and
    the log (logger `fractalops`, level INFO) gives the reason.

    The result for an image depends on the image, its index in the call and the resolved settings. With tensor
    operations it also depends on the other images, by the rounding of sums. If `points` is "auto", it also depends on
    the mean number of pixels that differ from the background. (`fit_dataset` resolves the settings for each image.)

    On Ctrl-C, `fit` stops learning and returns the result so far, with `result.interrupted` set. The result then has no
    systems for images whose learning had not begun. Code that calls `fit` in a loop must check `interrupted`, because
    its loop continues.

    Args:
        targets: Target images with values in [0, 1]; shape (H, W) or (S, H, W), in color (3, H, W) or (S, 3, H, W);
            any floating dtype, converted to float32. Learning runs on their device.
        config: The settings. "auto" settings are resolved for the size of the targets and the mean number of pixels
            that differ from the background. None (default) uses the default settings.
        start: Systems to start from, one for each target. They have the parameters that `config` learns, or are given
            systems (`IFS.from_maps`), which are converted. If `config.maps` or `config.blend` is "auto", the value of
            `start` is used. None (default) creates systems by `config.initialization`.
        loss: Custom loss, a function. Its arguments are images (S, K, H, W) and targets (S, 1, H, W), in color
            (S, K, 3, H, W) and (S, 1, 3, H, W). It returns a differentiable tensor: one loss for each system, shape
            (S,), or their sum, shape (), which is then recorded for every system. None (default) uses the mean squared
            error of the pixels.
        progress: Whether to show a progress bar with the mean loss. Default: False.
        cuda_graph: Whether to capture one step in a CUDA graph and replay it for the following steps: True, False or
            "auto". "auto" (default) does so for targets on a GPU, but not with a custom `loss`, because Python code in
            it would run only during the capture. If a step can't be captured, a warning gives the reason, and the steps
            run without a graph.

    Returns:
        A `FitResult` with the learned systems, their losses and their errors.

    Raises:
        ValueError: If a shape or a value of the targets, the settings, `start` or the loss is wrong.
        TypeError: If a type or a dtype is wrong.
        KeyboardInterrupt: On Ctrl-C before the learning has begun, and on a second Ctrl-C.

    Examples:
        >>> import torch
        >>> import fractalops
        >>> target = torch.zeros(32, 32)
        >>> target[8:24, 8:24] = 1.0  # a white square
        >>> result = fractalops.fit(target, fractalops.FitConfig(steps=200))
        >>> result.best_image.shape
        torch.Size([1, 32, 32])
        >>> result.draw(512).shape
        torch.Size([1, 512, 512])
    """
    config = or_default("fit", "config", config, FitConfig)
    images = check_targets("fit", targets, config)  # (S, H, W) or (S, 3, H, W)
    check_cuda_graph(cuda_graph, images.device)
    if loss is not None and not callable(loss):
        raise TypeError(f"fit: loss must be a function or None, got {type(loss).__name__}")
    if start is not None:
        if not isinstance(start, IFS):
            raise TypeError(f"fit: start must be an IFS, got {type(start).__name__}")
        if is_auto(config.maps):
            config = replace(config, maps=start.maps_per_system)
        if is_auto(config.blend):
            config = replace(config, blend=start.blend)
    config = settings_for(images, config)
    with torch.inference_mode(False):  # the copies become parameters
        state = None if start is None else start_parameters(start, images, config)  # each (S, ...)
    return fit_images(
        images, range(len(images)), config, state=state, loss=loss, progress=progress, cuda_graph=cuda_graph
    )


@in_float32
def fit_images(
    images: Tensor,
    numbers: Sequence[int],
    config: FitConfig,
    *,
    state: dict[str, Tensor] | None = None,
    loss: Loss | None = None,
    progress: bool = False,
    cuda_graph: CudaGraph = "auto",
) -> FitResult:
    """Learn checked images; see `fit`.

    Args:
        images: (S, H, W) or (S, 3, H, W), as `check_targets` returns them.
        numbers: The numbers of the S images, which determine their seeds.
        config: Resolved settings.
        state: Initial parameters, (S, ...). None follows `config.initialization`.
        loss: See `fit`.
        progress: See `fit`.
        cuda_graph: See `fit`.
    """
    began = time.perf_counter()
    batches: list[Batch] = []
    # Learning needs gradients, even if the caller has disabled them. A clone outside inference mode is a normal tensor.
    with torch.inference_mode(False), torch.enable_grad():
        parts = images.clone().split(config.batch_size)
        try:
            steps = len(parts) * config.steps
            with progress_bar(steps, "step", f"fit {len(images)} image(s)", shown=progress) as bar:
                for part in parts:
                    first = len(batches) * config.batch_size
                    place = slice(first, first + len(part))
                    own = state and {name: tensor[place] for name, tensor in state.items()}
                    batches.append(Batch.start(part, config, numbers[place], own))
                    for losses in run_steps(batches[-1], config, loss, cuda_graph):
                        if not bar.disable and (len(losses) > 1 or batches[-1].step % 20 == 0):
                            bar.set_postfix(loss=f"{losses[-1].mean().item():.4f}", refresh=False)
                        bar.update(len(losses))
            return evaluate_batches(batches, config, began)
        except KeyboardInterrupt:
            if not batches:
                raise
        return evaluate_batches(batches, config, began, interrupted=True)
