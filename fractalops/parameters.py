"""Learnable parameters of systems of maps: initial values, and the maps, colors and probabilities they define."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from fractalops._checks import check_choice, check_dtype, check_integer, check_number
from fractalops.ops.svd_matrix import SingularValues, run_svd_matrix
from fractalops.reference.probabilities import raise_to_floor
from fractalops.reference.without_autocast import widen
from fractalops.sampling import Generators, determinant_weights, draw_uniform, one_each
from fractalops.systems import SINGULAR_MARGIN, device_for, random_systems

Parametrization = Literal["svd", "matrix"]
Probabilities = Literal["determinant", "learned"]
ColorValues = Literal["sigmoid", "clamp"]


class MapParameters(nn.Module):
    """Base class of `IFS` with its parameters. Arguments and errors are those of `IFS`."""

    svd: nn.Parameter
    matrix: nn.Parameter
    offset: nn.Parameter
    color: nn.Parameter | None
    logit: nn.Parameter | None
    probability: Tensor | None

    def __init__(
        self,
        systems: int,
        maps: int,
        *,
        parametrization: Parametrization,
        singular_values: SingularValues,
        probabilities: Probabilities | Literal["given"],
        probability_floor: float,
        channels: int | None,
        color_values: ColorValues,
        generator: Generators,
        device: torch.device | str | None,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        systems = check_integer("IFS", "systems", systems, 1)
        maps = check_integer("IFS", "maps", maps, 1)
        channels = None if channels is None else check_integer("IFS", "channels", channels, 1)
        check_dtype("IFS", dtype)
        check_number("IFS", "probability_floor", probability_floor, least=0, below=1)
        for name, value, choices in (
            ("parametrization", parametrization, get_args(Parametrization)),
            ("singular_values", singular_values, get_args(SingularValues)),
            ("probabilities", probabilities, (*get_args(Probabilities), "given")),
            ("color_values", color_values, get_args(ColorValues)),
        ):
            check_choice("IFS", name, value, choices)
        self.parametrization = parametrization
        self.singular_values = singular_values
        self.color_values = color_values
        self.probability_floor = 0.0 if probabilities == "given" else float(probability_floor)

        device = device_for(device, one_each("IFS", generator, systems)[0])

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(systems, maps, *shape, device=device, dtype=dtype))

        if parametrization == "svd":
            self.svd = parameter(6)
        else:
            self.matrix = parameter(2, 2)
        self.offset = parameter(2)
        self.register_parameter("color", None if channels is None else parameter(channels))
        self.register_parameter("logit", parameter() if probabilities == "learned" else None)
        given = torch.empty(systems, maps, device=device, dtype=torch.float64) if probabilities == "given" else None
        self.register_buffer("probability", given)
        self.reset_parameters(generator)

    @torch.no_grad()
    def reset_parameters(self, generator: Generators = None) -> None:
        """Replace the parameters with new random systems, with colors of 0.5 and equal learned or given probabilities.

        A module on the device "meta" has no values, so nothing is drawn.

        Args:
            generator: Random number generator, or a sequence of S generators, one for each system. None uses torch's
                global generator.

        Raises:
            ValueError: If there are not S generators.
            TypeError: If `generator` has a wrong type.
        """
        if self.offset.is_meta:
            return
        drawn = random_systems(self.systems, self.maps_per_system, generator=generator, dtype=widen(self.offset).dtype)
        angles = torch.stack((drawn.theta, drawn.phi), -1)  # (S, N, 2)
        if self.parametrization == "matrix":
            exact = torch.cat((angles, drawn.singular_values, drawn.reflection), -1)  # (S, N, 6)
            self.matrix.copy_(run_svd_matrix(exact, "clamp"))
        else:
            values = drawn.singular_values
            if self.singular_values == "sigmoid":
                values = values.logit(eps=SINGULAR_MARGIN)
            uniform = draw_uniform(tuple(values.shape), generator, dtype=torch.float64, device=values.device)
            magnitude = 1 - uniform.to(values.dtype)  # (S, N, 2) in (0, 1]; 0 would lose the sign
            self.svd.copy_(torch.cat((angles, values, drawn.reflection * magnitude), -1))
        self.offset.copy_(drawn.offset)
        if self.color is not None:
            self.color.fill_(0.0 if self.color_values == "sigmoid" else 0.5)
        if self.logit is not None:
            self.logit.zero_()
        if self.probability is not None:
            self.probability.fill_(1 / self.maps_per_system)

    @property
    def systems(self) -> int:
        """Number of systems S."""
        return self.offset.shape[0]

    @property
    def maps_per_system(self) -> int:
        """Number of maps N of each system."""
        return self.offset.shape[1]

    @property
    def channels(self) -> int | None:
        """Number of color channels C; None for systems without colors."""
        return None if self.color is None else self.color.shape[2]

    def maps(self) -> tuple[Tensor, Tensor]:
        """Return the maps as differentiable functions of the parameters.

        Returns:
            The linear parts `matrix`, shape (S, N, 2, 2), and the translations `offset`, shape (S, N, 2). Both have the
            dtype of the parameters, or float32 if the parameters are in half precision.
        """
        if self.parametrization == "matrix":
            return widen(self.matrix), widen(self.offset)
        return run_svd_matrix(widen(self.svd), self.singular_values), widen(self.offset)

    def colors(self) -> Tensor | None:
        """Return the colors of the maps as a differentiable function of the parameter `color`.

        Returns:
            Colors in [0, 1], shape (S, N, C); None for systems without colors.
        """
        if self.color is None:
            return None
        color = widen(self.color)
        # torch's float32 loops round the last elements of a tensor differently. In float64 the position of an element
        # doesn't change the rounded result.
        return color.clamp(0, 1) if self.color_values == "clamp" else color.double().sigmoid().to(color.dtype)

    def _unit_weights(self) -> Tensor | None:
        """Return ones (S, N) with the gradient of the log-probabilities; None if `logit` needs no gradient."""
        if self.logit is None or not (torch.is_grad_enabled() and self.logit.requires_grad):
            return None
        logarithm = widen(self.logit).log_softmax(-1)  # (S, N)
        return (logarithm - logarithm.detach()).exp()

    def _weights(self) -> Tensor:
        """Return detached weights (S, N) to which the probabilities are proportional: given, learned, or `|det A|`."""
        if self.probability is not None:
            return self.probability
        if self.logit is not None:
            return widen(self.logit.detach()).softmax(-1)
        if self.parametrization == "matrix":
            return determinant_weights(widen(self.matrix))
        values = widen(self.svd.detach())[..., 2:4]  # (S, N, 2)
        return (values.double().sigmoid() if self.singular_values == "sigmoid" else values.clamp(0, 1)).prod(-1)

    def probabilities(self) -> Tensor:
        """Return the probabilities of the maps, without gradients.

        Returns:
            Probabilities of shape (S, N). Each row has sum 1. Unless they are given, each is at least about
            `probability_floor`.
        """
        if self.probability is not None:
            return self.probability
        return raise_to_floor(self._weights(), self.probability_floor)
