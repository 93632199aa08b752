"""The module `IFS`: iterated function systems with learnable parameters."""

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
from fractalops.sampling import Generators, chain_start, draw_sequences, join_index
from fractalops.systems import System
from fractalops.systems.stacking import Arrays, read_maps, stack_systems
from fractalops.systems.system import split_systems

Sampling = Literal["independent", "balanced"]


class IFS(MapParameters):
    """Module of S iterated function systems with N learnable affine maps `v -> A v + b` each.

    `forward` draws random sequences of points of the systems as images, which are differentiable in the parameters. The
    initial systems are random, by the method of Anderson and Farrell 2022 (`random_systems`). `from_maps` and
    `from_systems` create modules of given systems.

    Args:
        systems: Number of systems S, at least 1. Default: 1.
        maps: Number of affine maps N of each system, at least 1. Default: 10.
        parametrization: Parameters of the matrices A. "svd" (default): theta, phi, s1, s2, d1 and d2 of `svd_matrix`,
            whose singular values are at most 1. "matrix": the entries of A, also for maps that don't contract.
        singular_values: Meaning of s1 and s2 in `svd`: "sigmoid" (default, published code) for logits, "clamp" (the
            paper's text) for the values themselves.
        probabilities: "determinant" (default) makes the probabilities of the maps proportional to `|det A|` (paper
            section 3). "learned" makes them the softmax of the parameter `logit`; see `forward` for its gradient.
            "given" stores them in the buffer `probability`, initially equal, and uses no floor.
        sampling: How `sample` draws sequences: "independent" (default, paper section 3), or "balanced", which leaves
            fewer holes in images of a few hundred points; see `sample_index`.
        probability_floor: Smallest probability of a map before the probabilities are scaled to sum 1, in [0, 1).
            Default: 0.001.
        channels: Number of color channels C of the maps. None (default) means systems without colors.
        color_values: Meaning of `color`: "sigmoid" (default) for logits, "clamp" for the values themselves, which have
            no gradient outside [0, 1] and learn much worse.
        viewport: Default viewport of `forward`; see `render`. Default: (-5, -5, 5, 5).
        bandwidth: Default bandwidth of `forward` in square pixels; see `render`. Default: 1.
        cutoff: Default cutoff of `forward`; see `render`. Default: 1e-6.
        blend: "add" (default) or "mean"; see `render`.
        background: Background of blend "mean", in [0, 1]; see `render`. Default: 0.
        background_weight: Weight of the background of blend "mean", above 0; see `render`. Default: 0.03.
        generator: Random number generator of the initial systems, or a sequence of S generators, one for each system.
            None uses torch's global generator. Numbers are drawn on the generator's device, or on the CPU, so that a
            seed gives the same systems on every device.
        device: Device of the parameters. None uses the generator's device, or torch's default device.
        dtype: Dtype of the parameters, float32 (default) or float64.

    Attributes:
        svd (Parameter): SVD parameters theta, phi, s1, s2, d1 and d2 of the matrices, shape (S, N, 6). It exists only
            with `parametrization="svd"`.
        matrix (Parameter): Matrices A, shape (S, N, 2, 2). It exists only with `parametrization="matrix"`.
        offset (Parameter): Translations b, shape (S, N, 2).
        color (Parameter or None): Parameters of the colors of the maps, shape (S, N, C). The initial colors are 0.5.
        logit (Parameter or None): Logits of learned probabilities, shape (S, N), initially 0.
        probability (Tensor or None): Given probabilities, shape (S, N), float64, a buffer.

    Raises:
        ValueError: If an argument is out of range.
        TypeError: If an argument has a wrong type.

    Note:
        `state_dict` contains no settings such as `viewport`. Copies and pickles contain them.

        The latent signs d1 and d2 start uniform in [-1, 1], as in the published code. Adam moves all of them at the
        same pace, so that signs of equal magnitude would all flip in the same few steps.

        After `half()` or `bfloat16()` the parameters stay in half precision, the module computes in float32, and images
        have the dtype of the parameters. For learning, prefer float32 parameters under `torch.autocast`.

    Examples:
        >>> import fractalops
        >>> ifs = fractalops.IFS(systems=2, maps=4)
        >>> ifs(64, sequences=3, points=1000).shape
        torch.Size([2, 3, 64, 64])
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
        """Create a module of given systems.

        The module has the options `parametrization="matrix"`, `color_values="clamp"` and `probabilities="given"`, so
        that it stores the maps and colors without change. Maps need not contract.

        Arrays are tensors, NumPy arrays or nested sequences of numbers. For S systems, add a dimension of size S in
        front, or pass a list of arrays if the systems have different numbers of maps. N is then the largest number, and
        smaller systems are padded with maps of probability 0.

        Args:
            matrix: Linear parts of the maps; shape (N, 2, 2).
            offset: Translations of the maps; shape (N, 2).
            probabilities: Probabilities of the maps; shape (N,). They are scaled to sum 1. None makes them proportional
                to `|det A|`, as `IFS` does by default.
            color: Colors of the maps, in [0, 1]; shape (N, C). None means systems without colors.
            viewport: Default viewport of `forward`; see `render`. The default "fit" shows the whole attractor.
            **settings: Other arguments of `IFS`: `sampling`, `bandwidth`, `cutoff`, `blend`, `background`,
                `background_weight`, `device` and `dtype`. The default dtype is float64 if any map is float64, else
                float32. Python's numbers count as float64.

        Returns:
            The module.

        Raises:
            ValueError: If a shape or value is wrong.
            TypeError: If an argument is not an array of numbers, a dtype is wrong, or `settings` contains an argument
                that follows from the systems, such as `maps`.

        Examples:
            The Sierpinski triangle:

            >>> import fractalops
            >>> matrix = [[[0.5, 0], [0, 0.5]]] * 3
            >>> offset = [[0, 0], [0.5, 0], [0, 0.5]]
            >>> ifs = fractalops.IFS.from_maps(matrix, offset)
            >>> ifs(128, points=10_000).shape
            torch.Size([1, 1, 128, 128])
        """
        given = read_maps(matrix, offset, probabilities, color)
        return cls._given("IFS.from_maps", given, {"viewport": viewport, **settings})

    @classmethod
    def from_systems(cls, systems: Sequence[System], *, viewport: Viewport = "fit", **settings: Any) -> IFS:
        """Create a module of given `System` objects; see `from_maps`.

        Args:
            systems: Sequence of S systems in the plane, such as the result of `fractalops.io.read_systems` or of
                `IFS.each_system`.
            viewport: Default viewport of `forward`; see `render`. The default "fit" shows the whole attractor.
            **settings: Other arguments of `IFS`, as in `from_maps`.

        Returns:
            The module.

        Raises:
            ValueError: If `systems` is empty, a system is three-dimensional or not finite, or the systems differ in
                their number of color channels.
            TypeError: If a dtype is wrong, or `settings` contains an argument that follows from the systems.
        """
        return cls._given("IFS.from_systems", systems, {"viewport": viewport, **settings})

    @classmethod
    def _given(cls, owner: str, systems: Sequence[System], settings: dict[str, Any]) -> IFS:
        """Create a module of given systems. Error messages start with `owner`."""
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
        """Return the text that `print` shows in the parentheses of the module."""
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
        """Return a copy of one system as plain tensors.

        Args:
            number: Index of the system, in [-S, S). Default: 0.

        Returns:
            A `System` with the current maps, probabilities and colors, without gradients.

        Raises:
            IndexError: If there is no such system.
        """
        number = check_item("IFS.system", number, self.systems)
        return split_systems(*self.maps(), self.probabilities(), self.colors(), [number])[0]

    @torch.no_grad()
    def each_system(self) -> list[System]:
        """Return a list of copies of all S systems; see `system`."""
        return split_systems(*self.maps(), self.probabilities(), self.colors(), range(self.systems))

    def sample(self, sequences: int, points: int, *, generator: Generators = None) -> Tensor:
        """Draw random sequences of map indices from the current probabilities, as `sample_index` does.

        Args:
            sequences: Number of sequences K of each system, at least 0.
            points: Number of points T of each sequence, at least 1.
            generator: Random number generator, or a sequence of S generators, one for each system. None uses torch's
                global generator of the module's device.

        Returns:
            Indices in [0, N); shape (S, K, T), dtype uint8 if N <= 256, else int32.

        Raises:
            ValueError: If a number is out of range, or the generators don't match the systems or the device.
        """
        return draw_sequences(
            self._weights(), sequences, points, generator, self.probability_floor, self.sampling == "balanced"
        )

    def start(self) -> Tensor:
        """Return the points where the sequences of each system start, on its attractor.

        Returns:
            The fixed point of map 0 of each system, without gradients; shape (S, 2). With `probabilities="given"` it is
            the fixed point of the first map that contracts and has a probability above 0; see `chain_start`.
        """
        return self._start(*self.maps())

    def _start(self, matrix: Tensor, offset: Tensor) -> Tensor:
        if self.probability is None:
            return run_fixed_point(matrix[:, 0], offset[:, 0])
        return chain_start(matrix, offset, self.probability)

    def concatenated(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return all systems as one system of S * N maps, for one call of `affine_chain` or `render`.

        The paper runs many systems in parallel in this way (section 4.2).

        Args:
            index: Sequences of map indices in [0, N); shape (S, K, T), dtype uint8, int32 or int64.

        Returns:
            Linear parts `matrix`, shape (S * N, 2, 2); translations `offset`, shape (S * N, 2); `index` plus s * N for
            system s, shape (S * K, T), dtype uint8 if S * N <= 256, else int32; and the start of each sequence (see
            `start`), shape (S * K, 2).

        Raises:
            ValueError: If the shape of `index` is wrong.
            TypeError: If the dtype of `index` is wrong.
            IndexError: If an index is out of range. It is checked on the CPU, and on a GPU if `FRACTALOPS_DEBUG=1`.
        """
        systems, maps = self.systems, self.maps_per_system
        check_tensor("IFS.concatenated", index=index)
        check_index("IFS.concatenated", index)
        if index.dim() != 3 or index.shape[0] != systems:
            raise shape_error("IFS.concatenated", "index", f"({systems}, K, T)", index)
        # The op can't check this: an index past the maps of one system would select a map of the next system.
        check_index_range("IFS.concatenated", index, maps, debugging())
        return self._join(index)

    def _join(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return `concatenated(index)` without checks."""
        matrix, offset = self.maps()
        start = self._start(matrix, offset)[:, None]  # (S, 1, 2)
        start = start.expand(self.systems, index.shape[1], 2).reshape(-1, 2)  # (S * K, 2)
        return matrix.flatten(0, 1), offset.flatten(0, 1), join_index(index, self.maps_per_system), start

    @torch.no_grad()
    def points(self, index: Tensor) -> Tensor:
        """Return the points of given sequences of maps, without gradients.

        Args:
            index: Sequences of map indices in [0, N); shape (S, K, T), dtype uint8, int32 or int64; see `sample`.

        Returns:
            Points in the coordinates of the maps; shape (S, K, T, 2). The dtype is that of the parameters, or float32
            if they are in half precision.

        Raises:
            ValueError, TypeError, IndexError: As in `concatenated`.
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
        """Draw images of all systems, from new random sequences or from given ones.

        Args:
            size: Side of the images, or (height, width), in pixels.
            sequences: Number of new sequences K of each system, one image for each. Default: 1.
            points: Number of points T of each new sequence. Default: 300.
            index: Given sequences of map indices in [0, N); shape (S, K, T), dtype uint8, int32 or int64; see `sample`.
                If it is given, `sequences`, `points` and `generator` have no effect.
            generator: Random number generator of the sequences, or a sequence of S generators, one for each system.
                None uses torch's global generator of the module's device.
            viewport: As in `render`. None uses the module's viewport.
            bandwidth: Bandwidth in square pixels, a number or a tensor of shape () or (S * K,). None uses the module's
                bandwidth.
            clamp: If True (default), limit the images to [0, 1].
            cutoff: As in `render`. `...` (default) uses the module's cutoff.

        Returns:
            Images of shape (S, K, H, W), or (S, K, C, H, W) if the maps have colors, in the dtype of the parameters.
            They are differentiable in the parameters and in `bandwidth`.

        Raises:
            ValueError: If a shape, device or number is wrong.
            TypeError: If a dtype or type is wrong.
            IndexError: If an index is out of range. It is checked on the CPU, and on a GPU if `FRACTALOPS_DEBUG=1`.
            BackendError: If the backend of `use_backend` or `FRACTALOPS_BACKEND` can't run.

        Warns:
            UserWarning: As in `render`.

        Note:
            Random draws have no gradient. With learned probabilities and new sequences, the gradient of `logit` is a
            first-order estimate: more points of map n have about the same effect as a larger weight w_n of its points.
            All w_n are 1. With the gradient `G_n` of the loss with respect to w_n, and the probability p_n, the
            gradient with respect to `logit[n]` is `G_n - p_n sum_m G_m`. (The score-function estimate is unbiased, but
            its variance grows with the number of points.)
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
