"""Concepts: E(x | c) of one factor, learned in three ways.

Notation: x noisy image (B, 3, S, S), sigma (B,) its noise level, E0 the unconditional energy, k a
cell of the factor (K cells), pi_k its prior, t (B, K) the cell weights of one value per image.
All energies in nats. What ties them:

    E(x, sigma | k) = E0(x, sigma) - log p(k | x, sigma) + log pi_k
    sum_k pi_k exp(-E(x, sigma | k)) = exp(-E0(x, sigma))                       (exact)

``posterior`` learns log p(k | x, sigma) and draws with the E0 of a shared base; ``conditional``
learns a full E(x | c) with its own unconditional energy by label dropout: nothing is shared, as in
the paper; ``both`` holds one of each. A posterior can be calibrated after training, by a
temperature per noise level; see ``temperature``. Conditional energies, which draw, are left as
they were trained.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from ebmcli.core.base_energy import BaseEnergy
from ebmcli.core.conditioning import Conditioner
from ebmcli.core.factors import Factor
from ebmcli.core.field_network import FieldNetwork
from ebmcli.core.gaussian import GaussianEnergy, input_scale
from ebmcli.core.networks import PosteriorNetwork, TrunkConfig
from ebmcli.core.temperature import Temperatures, tempered_posterior
from ebmcli.errors import ConfigError, DivergedError

METHODS = ("posterior", "conditional", "both")


def refuse_nan(log_posterior: Tensor, name: str, *, sigma: float | None = None) -> None:
    """Refuse what is no probability before anything is made of it; -inf, a 0, is one.

    Args:
        log_posterior: What a concept said, of any shape.
        name: Of the concept, or where that is not known, of its factor.
        sigma: The noise level it was asked at; None of several.

    Raises:
        DivergedError: There is a NaN.
    """
    if not bool(log_posterior.isnan().any()):
        return
    where = "" if sigma is None else f" at noise level {sigma:.3g}"
    hint = "ebm verify checks its weights; if they are as they were saved, train it again"
    raise DivergedError(f"the posterior of {name} is not a number{where}", hint=hint)


class TrainedConcept(Protocol):
    """What logic, sampling and inference ask of a concept."""

    factor: Factor
    log_prior: Tensor  # log pi, (K,)
    config: TrunkConfig
    autocast: bool  # networks in bfloat16, sums in float32

    def log_posterior(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log p(k | x, sigma) for every cell: (B, K)."""
        ...

    def log_ratio(self, x: Tensor, sigma: Tensor, target: Tensor) -> Tensor:
        """log p(c | x, sigma) - log p(c), one value per image as cell weights (B, K): (B,)."""
        ...

    def set_temperatures(self, levels: Mapping[float, float]) -> None:
        """Calibrate the posterior: T by sigma; an empty mapping takes them away."""
        ...

    def load_state_dict(self, tensors: dict[str, Tensor]) -> object:
        """Fill weights from a file."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Weights for a file."""
        ...

    def parameters(self) -> object:
        """Trainable weights."""
        ...

    def eval(self) -> "nn.Module":
        """Switch to use."""
        ...


class _Tempered(nn.Module):
    """A module with a posterior that may have temperatures; they are no part of its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.temperatures: Temperatures | None = None

    def set_temperatures(self, levels: Mapping[float, float]) -> None:
        """Calibrate the posterior: T by sigma; an empty mapping takes them away."""
        device = next(self.parameters()).device
        self.temperatures = Temperatures(levels).to(device) if levels else None

    def _temperature(self, sigma: Tensor) -> Tensor | None:
        """T(sigma) (B,), or None where nothing was calibrated."""
        return None if self.temperatures is None else self.temperatures.at(sigma)


class PosteriorConcept(_Tempered):
    """log p(k | x, sigma) by a network of its own, its logits divided by T(sigma).

    The cells of a list of objects are those of a field: they exclude one another within one cell
    of the floor, and the cells of the floor are independent.

    Args:
        factor: The factor whose cells the posterior speaks about.
        config: Shape of the network.
        log_prior: log pi, (K,).
    """

    log_prior: Tensor

    def __init__(self, factor: Factor, config: TrunkConfig, log_prior: Tensor) -> None:
        super().__init__()
        self.factor = factor
        self.config = config
        self.network = posterior_network(factor, config)
        self.register_buffer("log_prior", log_prior.clone())
        self.autocast = False

    def log_posterior(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log p(k | x, sigma) = log softmax_k(logit_k / T + log pi_k): (B, K).

        For objects the softmax runs over the outcomes of each cell of the floor.
        """
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
            scaled = x / input_scale(sigma)[:, None, None, None]
            logits = self.network(scaled.contiguous(memory_format=torch.channels_last), sigma)
        return tempered_posterior(
            logits.float(), self.log_prior, self._temperature(sigma), n_groups=self.factor.n_groups
        )

    def log_ratio(self, x: Tensor, sigma: Tensor, target: Tensor) -> Tensor:
        """log sum_k t_k p(k | x, sigma) / pi_k, summed over the cells of a floor: (B,)."""
        ratio = self.log_posterior(x, sigma) - self.log_prior
        grouped = (ratio + target.clamp_min(1e-30).log()).reshape(len(x), self.factor.n_groups, -1)
        return torch.logsumexp(grouped, dim=2).sum(1)


def posterior_network(factor: Factor, config: TrunkConfig) -> nn.Module:
    """A network that gives logits (B, K) over the cells of a factor."""
    if factor.kind == "objects":
        return FieldNetwork(config, n_outcomes=factor.n_outcomes, n_channels=3)
    return PosteriorNetwork(config, n_cells=factor.n_cells, n_channels=3)


class ConditionalConcept(_Tempered):
    """E(x, sigma | c) = E_G + (r sqrt(v) / sigma^2) f(u, w, sigma, c), and c may be "none".

    Nothing is shared, as in the paper; the loss is ours. The condition enters by gains and biases
    of every block and, for positions, as maps beside the image.

    Args:
        factor: The factor.
        config: Shape of the network.
        log_prior: log pi, (K,).
        gaussian: The Gaussian of the space.
    """

    log_prior: Tensor
    cells: Tensor

    def __init__(
        self, factor: Factor, config: TrunkConfig, log_prior: Tensor, gaussian: GaussianEnergy
    ) -> None:
        super().__init__()
        self.factor = factor
        self.config = config
        self.conditioner = Conditioner(factor, config)
        self.body = BaseEnergy(gaussian, config, n_maps=self.conditioner.n_maps)
        self.register_buffer("log_prior", log_prior.clone())
        self.register_buffer("cells", torch.eye(factor.n_cells), persistent=False)
        self.autocast = False

    @property
    def own_gaussian(self) -> GaussianEnergy:
        """The Gaussian the energy starts from."""
        return self.body.gaussian

    def energy(self, x: Tensor, sigma: Tensor, target: Tensor) -> Tensor:
        """E(x, sigma | c), c as cell weights (B, K); all zero means "none": (B,)."""
        self.body.autocast = self.autocast
        vector, maps = self.conditioner(target)
        return self.body.energy(x, sigma, vector, maps)

    def denoise(
        self, x: Tensor, sigma: Tensor, target: Tensor, *, create_graph: bool = False
    ) -> Tensor:
        """D(x, sigma | c) (B, 3, S, S)."""
        self.body.autocast = self.autocast
        vector, maps = self.conditioner(target)
        return self.body.denoise(x, sigma, vector, maps, create_graph=create_graph)

    def unconditional(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E(x, sigma | none): (B,)."""
        return self.energy(x, sigma, torch.zeros(len(x), self.factor.n_cells, device=x.device))

    def log_posterior(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log softmax_k(log pi_k - E(x, sigma | k) / T): K evaluations, (B, K)."""
        columns = [
            self.energy(x, sigma, cell.expand(len(x), -1))
            for cell in self.cells  # one pass per cell: the price of this method
        ]
        evidence = -torch.stack(columns, dim=1)
        return tempered_posterior(evidence, self.log_prior, self._temperature(sigma))

    def log_ratio(self, x: Tensor, sigma: Tensor, target: Tensor) -> Tensor:
        """E(x, sigma | none) - E(x, sigma | c), whatever the temperatures: (B,)."""
        return self.unconditional(x, sigma) - self.energy(x, sigma, target)


class BothConcept(nn.Module):
    """A conditional energy for drawing and a posterior for logic and reading values, one file."""

    log_prior: Tensor

    def __init__(
        self, factor: Factor, config: TrunkConfig, log_prior: Tensor, gaussian: GaussianEnergy
    ) -> None:
        super().__init__()
        self.factor = factor
        self.config = config
        self.conditional = ConditionalConcept(factor, config, log_prior, gaussian)
        self.posterior = PosteriorConcept(factor, config, log_prior)
        self.register_buffer("log_prior", log_prior.clone())
        self.autocast = False

    @property
    def own_gaussian(self) -> GaussianEnergy:
        """The Gaussian the conditional energy starts from."""
        return self.conditional.body.gaussian

    def log_posterior(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The posterior's log p(k | x, sigma): (B, K)."""
        self.posterior.autocast = self.autocast
        return self.posterior.log_posterior(x, sigma)

    def log_ratio(self, x: Tensor, sigma: Tensor, target: Tensor) -> Tensor:
        """The conditional energy's E(x | none) - E(x | c): (B,)."""
        self.conditional.autocast = self.autocast
        return self.conditional.log_ratio(x, sigma, target)

    def set_temperatures(self, levels: Mapping[float, float]) -> None:
        """Calibrate the posterior: T by sigma; an empty mapping takes them away."""
        self.posterior.set_temperatures(levels)

    def unconditional(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The conditional energy's own E0: (B,)."""
        self.conditional.autocast = self.autocast
        return self.conditional.unconditional(x, sigma)


def build_concept(
    method: str,
    factor: Factor,
    config: TrunkConfig,
    *,
    log_prior: Tensor,
    gaussian: GaussianEnergy | None = None,
    n_components: int = 0,
) -> PosteriorConcept | ConditionalConcept | BothConcept:
    """A concept of a method in METHODS, with fresh weights.

    ``gaussian`` is needed by all but ``posterior``; without it a blank one with ``n_components``
    is made, to be filled from a file.
    """
    if method == "posterior":
        return PosteriorConcept(factor, config, log_prior)
    if factor.kind == "objects":
        problem = f"the method {method} has no energy of a list of objects"
        raise ConfigError(problem, hint="train it by --method posterior")
    if gaussian is None:
        gaussian = GaussianEnergy.blank(3 * config.size**2, n_components)
    if method == "conditional":
        return ConditionalConcept(factor, config, log_prior, gaussian)
    if method == "both":
        return BothConcept(factor, config, log_prior, gaussian)
    raise ConfigError(f"unknown method {method!r}", hint=f"known: {', '.join(METHODS)}")
