"""Iterated function systems as a module with learnable parameters."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from fractalops._checks import (
    check_choice,
    check_cutoff,
    check_index,
    check_index_range,
    check_item,
    check_number,
    check_tensor,
    check_viewport,
    shape_error,
)
from fractalops.backends import debugging
from fractalops.ops.affine_chain import run_affine_chain
from fractalops.ops.fixed_point import run_fixed_point
from fractalops.ops.svd_matrix import SingularValues
from fractalops.parameters import ColorValues, MapParameters, Parametrization, Probabilities
from fractalops.placement import DEFAULT_VIEWPORT, Viewport
from fractalops.reference.without_autocast import in_float32, widen
from fractalops.rendering import (
    DEFAULT_BACKGROUND_WEIGHT,
    DEFAULT_BANDWIDTH,
    DEFAULT_CUTOFF,
    Blend,
    blend_mean,
    check_blend,
    point_values,
    render,
)
from fractalops.sampling import (
    Generators,
    chain_start,
    draw_sequences,
    join_index,
)
from fractalops.systems import System
from fractalops.systems.stacking import Arrays, read_maps, stack_systems
from fractalops.systems.system import split_systems

Sampling = Literal["independent", "balanced"]


class IFS(MapParameters):
    """A module of iterated function systems whose affine maps are learnable parameters.

    It holds S systems of N maps each. `forward` draws sequences of their points as images. The systems start at random,
    by the method of Anderson and Farrell 2022 (`random_systems`); `from_maps` and `from_systems` take given ones.

    Args:
        systems: the number of systems (S).
        maps: the number of affine maps of each system (N).
        parametrization: "svd" keeps every map a contraction. Its parameters are `svd` (S, N, 6) = theta, phi, s1, s2,
            d1, d2 of `svd_matrix`, and `offset` (S, N, 2). "matrix" has the parameters `matrix` (S, N, 2, 2) and
            `offset` (S, N, 2), also for maps that do not contract.
        singular_values: of "svd": "sigmoid", where s1 and s2 are logits (the published code), or "clamp", where they
            are the values themselves (the paper's text).
        probabilities: "determinant" takes the maps' probabilities from `|det A|` (paper section 3). "learned" has a
            parameter `logit` (S, N), which starts at zero; the probabilities are its softmax. See `forward` for its
            gradient. "given" holds them in a buffer `probability` (S, N) of float64, without a floor; they start equal.
        sampling: how `sample` draws sequences: "independent" (paper section 3), or "balanced" (`sample_index`), which
            leaves fewer holes with a few hundred points.
        probability_floor: the least probability of a map before rescaling, in [0, 1).
        channels: the number of channels C of a parameter `color` (S, N, C), a color for each map, which starts at one
            half. None is a system without colors.
        color_values: "sigmoid", where `color` holds logits, or "clamp", where it holds the values themselves; "clamp"
            has no gradient outside [0, 1], and learns far worse.
        viewport: see `fractalops.render`.
        bandwidth: see `fractalops.render`.
        cutoff: see `fractalops.render`.
        blend: see `fractalops.render`.
        background: see `fractalops.render`.
        background_weight: see `fractalops.render`.
        generator: of all systems, or a sequence of S, one for each system. Random numbers are drawn on its device, or
            on the CPU, so that a seed gives the same systems on every device.
        device: of the parameters; None is that of the generator, or torch's default device.
        dtype: of the parameters, float32 or float64.

    Raises:
        ValueError, TypeError: for an argument of the wrong value or type.

    Note:
        `viewport` and the other arguments of `render` are settings, not parameters: copies and pickles keep them, and
        `state_dict` does not.

        The latent signs d1 and d2 start uniform in [-1, 1], as in the published code. Adam moves all of them at the
        same pace, so that equal magnitudes would flip every reflection in the same few steps.

        After `half()` or `bfloat16()` the parameters stay in half precision, everything is computed in float32, and
        images have the dtype of the parameters. To learn, prefer float32 parameters under `torch.autocast`.
    """

    def __init__(
        self,
        systems: int = 1,
        maps: int = 10,
        *,
        parametrization: Parametrization = "svd",
        singular_values: SingularValues = "sigmoid",
        probabilities: Probabilities | Literal["given"] = "determinant",
        sampling: Sampling = "independent",
        probability_floor: float = 1e-3,
        channels: int | None = None,
        color_values: ColorValues = "sigmoid",
        viewport: Viewport = DEFAULT_VIEWPORT,
        bandwidth: float = DEFAULT_BANDWIDTH,
        cutoff: float | None = DEFAULT_CUTOFF,
        blend: Blend = "add",
        background: float = 0.0,
        background_weight: float = DEFAULT_BACKGROUND_WEIGHT,
        generator: Generators = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        check_choice("IFS", "sampling", sampling, get_args(Sampling))
        viewport = check_viewport("IFS", viewport)
        check_number("IFS", "bandwidth", bandwidth, above=0)
        check_cutoff("IFS", cutoff)
        check_blend("IFS", blend, background, background_weight)
        super().__init__(
            systems,
            maps,
            parametrization=parametrization,
            singular_values=singular_values,
            probabilities=probabilities,
            probability_floor=probability_floor,
            channels=channels,
            color_values=color_values,
            generator=generator,
            device=device,
            dtype=dtype,
        )
        self.sampling = sampling
        self.viewport = viewport
        self.bandwidth = float(bandwidth)
        self.cutoff = cutoff
        self.blend: Blend = blend
        self.background = float(background)
        self.background_weight = float(background_weight)

    @classmethod
    def from_maps(
        cls,
        matrix: Arrays,
        offset: Arrays,
        probabilities: Arrays | None = None,
        color: Arrays | None = None,
        *,
        viewport: Viewport = "fit",
        **settings: Any,
    ) -> IFS:
        """Return given systems: maps, probabilities and colors are held exactly as they are.

        Maps need not contract: isometries and maps of determinant 0 are held, too. Arguments are tensors, arrays or
        nested sequences: of one system, of S systems with another dimension in front, or a sequence of systems with
        different numbers of maps. Shorter ones are filled up with maps of probability 0. The dtype is float64 where
        any of the maps is, as Python's numbers are, else float32.

        Args:
            matrix: (N, 2, 2), the maps' linear parts.
            offset: (N, 2), their translations.
            probabilities: (N,), scaled to sum 1. None takes `determinant_probabilities`, as `IFS` does by default.
            color: (N, C), in [0, 1]. None is a system without colors.
            viewport: as in `render`; "fit" shows the whole attractor, wherever it lies.
            settings: other arguments of `IFS`: how the systems draw, `device` and `dtype`.

        Raises:
            ValueError, TypeError: for a wrong shape, dtype or number.
        """
        given = read_maps(matrix, offset, probabilities, color)
        return cls._given("IFS.from_maps", given, {"viewport": viewport, **settings})

    @classmethod
    def from_systems(cls, systems: Sequence[System], *, viewport: Viewport = "fit", **settings: Any) -> IFS:
        """Return given systems, as `from_maps` does.

        Raises `ValueError` for none, one in space, numbers that are not finite and unlike colors.
        """
        return cls._given("IFS.from_systems", systems, {"viewport": viewport, **settings})

    @classmethod
    def _given(cls, owner: str, systems: Sequence[System], settings: dict[str, Any]) -> IFS:
        """Return given systems; errors begin with `owner`."""
        state = stack_systems(owner, systems, settings)
        module = cls(
            *state["offset"].shape[:2],
            parametrization="matrix",
            probabilities="given",
            channels=state["color"].shape[2] if "color" in state else None,
            color_values="clamp",
            device="meta",
            **settings,
        )
        module.load_state_dict(state, assign=True)
        return module

    def extra_repr(self) -> str:
        """Return the text that `print` shows of the module."""
        weight = self.background_weight
        return (
            f"systems={self.systems}, maps={self.maps_per_system}, parametrization={self.parametrization!r}, "
            f"singular_values={self.singular_values!r}, probability_floor={self.probability_floor:g}"
            + ("" if self.color is None else f", channels={self.channels}")
            + ("" if self.color_values == "sigmoid" else ", color_values='clamp'")
            + ("" if self.logit is None else ", probabilities='learned'")
            + ("" if self.probability is None else ", probabilities='given'")
            + ("" if self.sampling == "independent" else ", sampling='balanced'")
            + ("" if self.viewport == DEFAULT_VIEWPORT else f", viewport={self.viewport!r}")
            + ("" if self.bandwidth == DEFAULT_BANDWIDTH else f", bandwidth={self.bandwidth:g}")
            + ("" if self.cutoff == DEFAULT_CUTOFF else f", cutoff={self.cutoff}")
            + ("" if self.blend == "add" else f", blend='mean', background={self.background:g}")
            + ("" if weight == DEFAULT_BACKGROUND_WEIGHT else f", background_weight={weight:g}")
        )

    @torch.no_grad()
    def system(self, number: int = 0) -> System:
        """Return a copy of system `number` of the S, as plain tensors. Raises `IndexError` where there is none."""
        number = check_item("IFS.system", number, self.systems)
        return split_systems(*self.maps(), self.probabilities(), self.colors(), [number])[0]

    @torch.no_grad()
    def each_system(self) -> list[System]:
        """Return copies of all S systems, as `system` does of one."""
        return split_systems(*self.maps(), self.probabilities(), self.colors(), range(self.systems))

    def sample(self, sequences: int, points: int, *, generator: Generators = None) -> Tensor:
        """Draw indices (S, K, T) in [0, N) by the current probabilities, as `sample_index`."""
        return draw_sequences(
            self._weights(), sequences, points, generator, self.probability_floor, self.sampling == "balanced"
        )

    def start(self) -> Tensor:
        """Return the detached fixed point (S, 2) of map 0 of each system, a point of its attractor (see `fixed_point`).

        With given probabilities it is that of the first map that is drawn and contracts (see `chain_start`).
        """
        return self._start(*self.maps())

    def _start(self, matrix: Tensor, offset: Tensor) -> Tensor:
        if self.probability is None:
            return run_fixed_point(matrix[:, 0], offset[:, 0])
        return chain_start(matrix, offset, self.probability)

    def concatenated(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return all systems as one (the paper's trick, section 4.2): what one call of the chain takes.

        Returns `matrix` (S * N, 2, 2), `offset` (S * N, 2), `index` (S * K, T), in which system s is shifted
        by s N, uint8 when S * N <= 256, else int32, and `start` (S * K, 2), as `start()`.

        `index` is uint8, int32 or int64 with values in [0, N). Raises `ValueError` for another shape,
        `TypeError` for another dtype and, on the CPU, `IndexError` for an index out of range.
        """
        systems, maps = self.systems, self.maps_per_system
        check_tensor("IFS.concatenated", index=index)
        check_index("IFS.concatenated", index)
        if index.dim() != 3 or index.shape[0] != systems:
            raise shape_error("IFS.concatenated", "index", f"({systems}, K, T)", index)
        # Checked here, not left to the op: an index past one system's maps would reach the next system's.
        check_index_range("IFS.concatenated", index, maps, debugging())
        return self._join(index)

    def _join(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return `concatenated` for an index (S, K, T) that is known to be right."""
        matrix, offset = self.maps()
        start = self._start(matrix, offset)[:, None]  # (S, 1, 2)
        start = start.expand(self.systems, index.shape[1], 2).reshape(-1, 2)  # (S * K, 2)
        return matrix.flatten(0, 1), offset.flatten(0, 1), join_index(index, self.maps_per_system), start

    @torch.no_grad()
    def points(self, index: Tensor) -> Tensor:
        """Return the points (S, K, T, 2) of sequences of maps `index` (S, K, T), in the plane, without gradients.

        Raises as `concatenated`.
        """
        return run_affine_chain(*self.concatenated(index)).view(*index.shape, 2)

    @in_float32
    def forward(
        self,
        size: int | tuple[int, int],
        *,
        sequences: int = 1,
        points: int = 300,
        index: Tensor | None = None,
        generator: Generators = None,
        viewport: Viewport | None = None,
        bandwidth: float | Tensor | None = None,
        clamp: bool = True,
        cutoff: float | EllipsisType | None = ...,
    ) -> Tensor:
        """Return images (S, K, H, W) of all systems, of new sequences or of those in `index` (S, K, T).

        They are (S, K, C, H, W) when the maps have colors.

        `size` is in pixels; the other arguments are those of `fractalops.render` and of `sample`. A `viewport` or a
        `bandwidth` of None, and a `cutoff` of `...`, are the module's own.

        Drawing has no gradient. That of learned probabilities is one of first order, for new sequences only: a map that
        is drawn more often has more points, as if each of its points weighed more. So with `G_n` the sum of the
        gradients of the weights of map n's points, which are 1, `logit` gets `G_n - p_n sum_m G_m`. (The estimate by
        the score function has no such error, but a variance that grows with the number of points.)
        """
        weights = None
        if index is None:
            index = self.sample(sequences, points, generator=generator)
            matrix, offset, joined, start = self._join(index)
            weights = self._unit_weights()  # (S, N)
        else:
            matrix, offset, joined, start = self.concatenated(index)
        viewport = self.viewport if viewport is None else viewport
        bandwidth = self.bandwidth if bandwidth is None else widen(bandwidth)
        mean = self.blend == "mean"
        values = point_values(self.colors(), weights, widen(self.offset)[..., :1], mean)  # (S, N, C)
        images = render(
            matrix,
            offset,
            joined,
            size,
            start=start,
            viewport=viewport,
            bandwidth=bandwidth,
            color=None if values is None else values.flatten(0, 1),
            clamp=clamp and not mean,
            cutoff=self.cutoff if isinstance(cutoff, EllipsisType) else cutoff,
        )  # (S * K, H, W) or (S * K, C, H, W)
        if mean:
            own = bandwidth.view(-1, 1, 1, 1) if isinstance(bandwidth, Tensor) else bandwidth
            images = blend_mean(images, index.shape[2], own, self.background, self.background_weight)
            images = images.clamp(0, 1) if clamp else images
        if self.color is None and images.dim() == 4:
            images = images[:, 0]
        return images.view(*index.shape[:2], *images.shape[1:]).to(self.offset.dtype)
