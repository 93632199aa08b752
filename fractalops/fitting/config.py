"""Settings of `fit`, and the rules for the settings that are "auto"."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import torch

from fractalops._checks import AUTO, Bounds, Count, Natural, check_fields, check_viewport, is_auto
from fractalops.fitting.schedules import cosine_schedule, halving_schedule
from fractalops.ifs import IFS, Sampling
from fractalops.ops.svd_matrix import SingularValues
from fractalops.parameters import Parametrization, Probabilities
from fractalops.placement import DEFAULT_VIEWPORT, Viewport
from fractalops.rendering import DEFAULT_BACKGROUND_WEIGHT, DEFAULT_BANDWIDTH, DEFAULT_CUTOFF, Blend

LEARNING_VIEWPORT = (-2.5, -2.5, 2.5, 2.5)  # learning works better in it than in the published viewport

Objective = Literal["expectation", "fixed"]
OptimizerName = Literal["adam", "sgd"]
Initialization = Literal["intensity", "tiles", "random"]
Detail = Literal["standard", "fine"]
Schedule = Literal["cosine", "halving"]

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound="DataclassInstance")


@dataclass(frozen=True)
class FitConfig:
    """Settings of `fit` and `fit_dataset`.

    Each step draws K random sequences of T points for each system, renders an image of each sequence, and lowers the
    mean squared error of the images by gradient descent (paper section 4.4).

    A setting that is "auto" is chosen from the size of the targets and from the number of pixels that differ from the
    background. `resolve` replaces "auto" with values, and `automatic_settings` gives the rules. On targets of up to
    32 x 32 pixels the default settings reach a smaller error, with less work, than the published ones
    (`FitConfig.paper`). The study is in docs/recipe.md.

    Args:
        maps (int or "auto"): Number of affine maps of a system, N. Default: "auto".
        points (int or "auto"): Number of points of a sequence, T. Default: "auto".
        sequences (int or "auto"): Number of sequences that a step draws for each system, K (the paper's batch size).
            Default: "auto".
        steps (int or "auto"): Number of optimization steps, at least 0. Default: "auto".
        detail (str): Amount of work of the "auto" settings for targets above 32 x 32 pixels. "standard" takes about 10
            seconds for 256 x 256 pixels on two cores. "fine" uses four times as many maps and takes minutes for
            512 x 512 pixels. Default: "standard".
        blend (str): How points become an image, see `render`: "add" sums their bumps; "mean" averages their colors.
            With "mean" every map learns a color, also for gray targets. Default: "auto".
        background (float): Value of a pixel without points, in [0, 1], for the blend "mean". Default: 0.0.
        background_weight (float): Weight of the background, above 0, for the blend "mean"; see `render`. Default: 0.03.
        bandwidth (float): Bandwidth tau of the Gaussian bumps, in square pixels. Default: 1.0.
        cutoff (float or None): Leave out pixels far from a point, on which its bump is below this value, in (0, 1).
            None draws every point on every pixel. Default: 1e-6.
        clamp (bool): Whether images are limited to [0, 1] during learning (paper section 4.3). In the evaluation they
            always are. Default: True.
        viewport (tuple or str): Part of the plane that the image shows: (x_min, y_min, x_max, y_max), or "stretch" or
            "fit"; see `render`. Default: (-2.5, -2.5, 2.5, 2.5).
        objective (str): "expectation" draws new sequences at every step. "fixed" draws sequences once, from the initial
            parameters, and uses them in all steps (paper, equation 9). Default: "expectation".
        optimizer (str): "adam" or "sgd". Default: "adam".
        learning_rate (float or "auto"): Learning rate of the first step, above 0. `schedule` lowers it.
            Default: "auto".
        offset_rate (float or "auto"): Learning rate of the offsets, as a multiple of the learning rate of the other
            parameters. Default: "auto".
        split_every (int or "auto"): Number of steps between two calls of `split_maps`, which replaces the least useful
            maps by halves of the maps with the largest error. 0 never splits maps. For the blend "mean".
            Default: "auto".
        schedule (str): Schedule of the learning rate: "cosine" lowers it to 0 along half a period of a cosine;
            "halving" halves it after each quarter of the steps (the published code). Default: "cosine".
        momentum (float): Momentum of "sgd", in [0, 1]. Default: 0.9.
        gradient_clip (float or None): Largest norm of the gradient of a system. None sets no limit. Default: 1.0.
        noise (float): Standard deviation of the Gaussian noise that is added to the parameters of the matrices
            (paper section 4.4). 0 adds no noise. Default: 0.0.
        noise_every (int): Number of steps between two additions of noise. Default: 10.
        noise_until (float): Fraction of the steps, in [0, 1], after which no noise is added. Default: 0.6.
        parametrization (str): Parameters of the matrices: "svd" (paper, equation 10), or "matrix", the raw entries.
            Default: "svd".
        singular_values (str): Function that limits the singular values of "svd" to [0, 1]: "sigmoid" (the published
            code) or "clamp" (the paper's text). Default: "sigmoid".
        initialization (str): Initial systems. "intensity" distributes small maps over the bright parts of the target;
            see `intensity_start`. "tiles" covers the target with the images of the maps, which are smaller where the
            target has details; see `tile_start`. "random" does not depend on the target (the published code).
            Default: "auto".
        probabilities (str or None): Probabilities of the maps. "learned" learns them; they are equal at first, except
            with "tiles", which starts from the areas of the tiles. "determinant" makes them proportional to `|det A|`
            (paper section 3). None means "learned" for the objective "expectation" and "determinant" for "fixed", whose
            sequences are drawn only once, so that probabilities can't be learned. Default: None.
        sampling (str): How sequences are drawn, in learning and in the evaluation: "balanced" leaves fewer holes in the
            image; "independent" draws each map independently (paper section 3). See `IFS`. Default: "auto".
        evaluation_sequences (int or "auto"): Number of new sequences over which the minimum and the mean MSE of a
            learned system are computed. Default: "auto".
        color (bool): Whether the targets have three channels and every map learns a color. Its initial value is the
            mean color of the target or, with "tiles", of the map's tile. Default: False.
        snapshots (int): Number of copies of the parameters to keep. They are evenly spaced from before the first step
            to after the last one; a single copy is taken after the last step. Default: 0.
        batch_size (int or "auto"): Number of images that are learned together; it bounds the memory. Native steps give
            the same bits for any batch size. Tensor operations sum gradients in an order that depends on it. This can
            change the last bits of the result, and the choice of the maps that are split. Default: "auto".
        seed (int): Seed of the random numbers, at least 0. Image number s of a call uses its own generator, with the
            seed `seed + s`. Default: 0.

    Raises:
        ValueError: If a setting is out of its range, or contradicts another setting.
        TypeError: If a setting has the wrong type.

    Examples:
        >>> import fractalops
        >>> config = fractalops.FitConfig(color=True, maps=64, seed=1)
        >>> config.resolve((128, 128)).points
        12288
    """

    maps: Count = AUTO
    points: Count = AUTO
    sequences: Count = AUTO
    steps: Natural = AUTO
    detail: Detail = "standard"
    blend: Blend = AUTO
    background: Annotated[float, Bounds(least=0, most=1)] = 0.0
    background_weight: Annotated[float, Bounds(above=0)] = DEFAULT_BACKGROUND_WEIGHT
    # The range in which tau and 1 / tau are normal float32 numbers.
    bandwidth: Annotated[float, Bounds(least=2.0**-126, most=2.0**126)] = DEFAULT_BANDWIDTH
    cutoff: Annotated[float, Bounds(above=0, below=1)] | None = DEFAULT_CUTOFF
    clamp: bool = True
    viewport: Viewport = LEARNING_VIEWPORT
    objective: Objective = "expectation"
    optimizer: OptimizerName = "adam"
    learning_rate: Annotated[float, Bounds(above=0)] = AUTO
    offset_rate: Annotated[float, Bounds(above=0)] = AUTO
    split_every: Natural = AUTO
    schedule: Schedule = "cosine"
    momentum: Annotated[float, Bounds(least=0, most=1)] = 0.9
    gradient_clip: Annotated[float, Bounds(above=0)] | None = 1.0
    noise: Annotated[float, Bounds(least=0)] = 0.0
    noise_every: Count = 10
    noise_until: Annotated[float, Bounds(least=0, most=1)] = 0.6
    parametrization: Parametrization = "svd"
    singular_values: SingularValues = "sigmoid"
    initialization: Initialization = AUTO
    probabilities: Probabilities | None = None
    sampling: Sampling = AUTO
    evaluation_sequences: Count = AUTO
    color: bool = False
    snapshots: Natural = 0
    batch_size: Count = AUTO
    seed: Natural = 0

    def __post_init__(self) -> None:
        if self.probabilities is None:
            object.__setattr__(self, "probabilities", "determinant" if self.objective == "fixed" else "learned")
        check_fields(self)
        object.__setattr__(self, "viewport", check_viewport("FitConfig", self.viewport))
        if self.objective == "fixed" and self.probabilities == "learned":
            raise ValueError("FitConfig: probabilities must be determinant for the objective fixed, got 'learned'")
        if self.blend == "add" and not is_auto(self.split_every) and self.split_every > 0:
            raise ValueError(f"FitConfig: split_every must be 0 for the blend add, got {self.split_every}")

    @classmethod
    def paper(cls, **changes: Any) -> FitConfig:
        """Return the settings of the published code.

        Args:
            **changes: Settings to override, by name.

        Examples:
            >>> import fractalops
            >>> fractalops.FitConfig.paper(steps=100).learning_rate
            0.05
        """
        published: dict[str, Any] = {
            "maps": 10,
            "points": 300,
            "sequences": 50,
            "steps": 1000,
            "blend": "add",
            "viewport": DEFAULT_VIEWPORT,
            "learning_rate": 0.05,
            "offset_rate": 1.0,
            "split_every": 0,
            "evaluation_sequences": 100,
            "batch_size": 16,
            "schedule": "halving",
            "noise": 0.1,
            "initialization": "random",
            "probabilities": "determinant",
            "sampling": "independent",
        }
        return cls(**(published | changes))

    @property
    def channels(self) -> int | None:
        """Number of channels of a map's color: 3 in color, 1 in gray for the blend "mean", None for "add" in gray."""
        return 3 if self.color else 1 if self.blend == "mean" else None

    @property
    def empty(self) -> float:
        """Value of a pixel without points: `background` for the blend "mean", 0 for "add"."""
        return self.background if self.blend == "mean" else 0.0

    def resolve(self, size: Sequence[int], shown: int = 0) -> FitConfig:
        """Return a copy in which every "auto" setting has a value.

        Args:
            size: (height, width) of the targets, in pixels.
            shown: Number of pixels of a target that differ from the background. Default: 0.
        """
        chosen = automatic_settings(self, size[0] * size[1], shown)
        changes = {name: value for name, value in chosen.items() if is_auto(getattr(self, name))}
        return dataclasses.replace(self, **changes) if changes else self

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0. The settings must be resolved."""
        schedule = cosine_schedule if self.schedule == "cosine" else halving_schedule
        return schedule(self.learning_rate, step, self.steps)

    def splits_at(self, step: int) -> bool:
        """Return whether maps are split after a step, counted from 0."""
        return bool(self.split_every) and (step + 1) % self.split_every == 0 and step < _SPLIT_UNTIL * self.steps

    def adds_noise_at(self, step: int) -> bool:
        """Return whether noise is added after a step, counted from 0."""
        return self.noise > 0 and step % self.noise_every == 0 and step < self.noise_until * self.steps

    def snapshot_steps(self) -> list[int]:
        """Return the numbers of steps after which the parameters are copied, in ascending order; 0 is the start."""
        count = min(self.snapshots, self.steps + 1)
        if count < 2:
            return [self.steps] * count
        return [round(self.steps * i / (count - 1)) for i in range(count)]


_SMALL = 32 * 32  # pixels; the defaults up to this size are those of docs/recipe.md
_SEQUENCES = (5, 3, 2)  # of 300, 600 and 900 points: at most 20 % more points in total
_SPLIT_UNTIL = 0.6  # fraction of the steps after which no map is split


def automatic_settings(config: FitConfig, pixels: int, shown: int = 0) -> dict[str, Any]:
    """Return the values of the "auto" settings, by name.

    Values that depend on other settings use the values of `config` for them.

    Targets of up to 32 x 32 pixels get 10 maps and 2000 steps, with the blend "add", or "mean" if `split_every` is
    above 0. A step draws 5 sequences of 300 points. With "add", it draws 3 sequences of 600 points if more than 300
    pixels are shown, and 2 of 900 if more than 600 are.

    Larger targets get one map for each 16 x 16 pixels ("fine": 8 x 8), one sequence with 0.75 points for each pixel
    ("fine": 1.5), 800 steps ("fine": 2000), the blend "mean" and the initialization "tiles".

    Args:
        config: The settings.
        pixels: Number of pixels of a target.
        shown: Number of its pixels that differ from the background.
    """
    small, fine = pixels <= _SMALL, config.detail == "fine"

    def chosen(name: str, value: Any) -> Any:
        given = getattr(config, name)
        return value if is_auto(given) else given

    splits = not is_auto(config.split_every) and config.split_every > 0
    blend = chosen("blend", "add" if small and not splits else "mean")
    # With less than one point for each shown pixel, sums leave holes. docs/recipe-verified.md has the gain of more
    # points.
    dense = 1
    if small and blend == "add" and is_auto(config.points):
        dense = min(max(1, math.ceil(shown / 300)), len(_SEQUENCES))
    maps = chosen("maps", 10 if small else max(10, round(pixels / (8 * 8 if fine else 16 * 16))))
    sequences = chosen("sequences", _SEQUENCES[dense - 1] if small else 1)
    points = chosen("points", 300 * dense if small else math.ceil(pixels * (1.5 if fine else 0.75) / sequences))
    steps = chosen("steps", 2000 if small or fine else 800)
    return {
        "maps": maps,
        "sequences": sequences,
        "points": points,
        "steps": steps,
        "blend": blend,
        "initialization": "intensity" if small and blend == "add" else "tiles",
        # The time of balancing grows with the number of maps; docs/pictures.md has its gain.
        "sampling": "balanced" if small or maps < 128 else "independent",
        "learning_rate": 0.1 if small else 0.05,
        # Relative to the size of the tiles, steps are as long as with ten maps.
        "offset_rate": 1.0 if small or blend == "add" else min(1.0, math.sqrt(10 / maps)),
        # More frequent splits, or splits with fewer pixels, have shown no gain.
        "split_every": max(40, steps // 20) if blend == "mean" and pixels >= 96 * 96 else 0,
        "evaluation_sequences": 100 if small else 10,
        # This bounds the number of points in memory.
        "batch_size": 16 if small else max(1, min(16, 2**18 // (sequences * points))),
    }


def complete(kind: type[C], settings: dict[str, Any]) -> C:
    """Return the dataclass `kind` with these settings. Raise `ValueError` if one of its fields is missing."""
    if missing := [field.name for field in fields(kind) if field.name not in settings]:
        raise ValueError(f"config lacks {', '.join(missing)}")
    return kind(**settings)


def make_system(
    config: FitConfig,
    systems: int,
    maps: int | None = None,
    *,
    parametrization: Parametrization | None = None,
    generator: Sequence[torch.Generator] | None = None,
) -> IFS:
    """Return random systems of the kind that `config` learns, on the device of the generators.

    Args:
        config: The settings. The arguments `maps` and `parametrization` override those of `config`.
        systems: Number of systems, S.
        maps: Number of maps of a system, N. None uses `config.maps`.
        parametrization: "svd" or "matrix". None uses `config.parametrization`.
        generator: S generators. None creates parameters without values on the device "meta", for
            `load_state_dict(..., assign=True)`.
    """
    return IFS(
        systems,
        config.maps if maps is None else maps,
        parametrization=parametrization or config.parametrization,
        singular_values=config.singular_values,
        probabilities=config.probabilities or "determinant",
        sampling=config.sampling,
        channels=config.channels,
        viewport=config.viewport,
        bandwidth=config.bandwidth,
        cutoff=config.cutoff,
        blend=config.blend,
        background=config.background,
        background_weight=config.background_weight,
        generator=generator,
        device="meta" if generator is None else None,
    )
