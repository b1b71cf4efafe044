"""The unconditional energy of a space: an exact Gaussian plus what a network adds to it.

Notation: x noisy images (B, 3, S, S), sigma (B,) their noise level, E_G and D_W energy and Wiener
denoiser of the Gaussian base, r(sigma) its posterior scale, v = sigma^2 + 1/4, u = x / sqrt(v),
w = D_W(x, sigma), f a network with one number per image.

    E(x, sigma) = E_G(x, sigma) + (r sqrt(v) / sigma^2) f(u, w, sigma)
    D(x, sigma) = x - sigma^2 dE/dx = D_W(x, sigma) - r sqrt(v) df/dx

The network learns only what is not Gaussian; its gradient is of order one at every noise level,
as in the preconditioning of Karras et al. (2022), carried over to a scalar.

Score matching hardly sees how much mass separate modes have, nor a mode of which there is no data.
A base can therefore be mended by a residual energy, learned from samples of its own chains:

    E(x, sigma) = E_before(x, sigma) - log p_data(x, sigma) / p_own(x, sigma)

p_own is the density of what was drawn to train it, see ``workflows/own_samples``, which is that of
E_before where nothing was asked for; both are mixed with their mirror images.
"""

import torch
from torch import Tensor, nn

from ebmcli.core.gaussian import GaussianEnergy, input_scale
from ebmcli.core.networks import EnergyNetwork, RatioNetwork, TrunkConfig


class Residual(nn.Module):
    """R = log p_data(x, sigma) / p_own(x, sigma): noised data against noised samples of a base.

    The logit of a small network that tells the two apart by the features which the base itself has
    of them; its optimum is the log ratio of the densities when both are shown equally often. The
    base has learned those features from far more noise than there are samples.

    ``least`` is the log ratio that 19 of 20 real pictures exceed, read as ``ebm generate`` reads a
    finished picture; minus infinity before it is measured.

    Source: Gutmann and Hyvarinen (2010), noise-contrastive estimation; Deng et al. (2020), residual
    energies; Kim et al. (2023), discriminator guidance, for the ratio at every noise level; Sauer
    et al. (2024), adversarial diffusion in latent space, for frozen features.

    Args:
        config: Shape of the base's trunk.
    """

    least: Tensor

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        self.network = RatioNetwork(config)
        self.register_buffer("least", torch.tensor(-torch.inf))  # below, a picture is drawn again


class BaseEnergy(nn.Module):
    """E(x, sigma), optionally under a condition.

    Args:
        gaussian: The Gaussian of the space; its buffers are saved with the network.
        config: Shape of the network.
        n_maps: Channels (B, n_maps, S, S) that a condition adds beside the image.
        mended: It has a residual.
    """

    def __init__(
        self,
        gaussian: GaussianEnergy,
        config: TrunkConfig,
        *,
        n_maps: int = 0,
        mended: bool = False,
    ) -> None:
        super().__init__()
        self.gaussian = gaussian
        self.config = config
        self.network = EnergyNetwork(config, n_channels=6 + n_maps)
        self.residual = Residual(config) if mended else None
        self.autocast = False  # the network in bfloat16, sums in float32

    def correction(
        self, x: Tensor, sigma: Tensor, vector: Tensor | None = None, maps: Tensor | None = None
    ) -> Tensor:
        """f(u, w, sigma): (B,), dimensionless, float32."""
        channels = self._channels(x, sigma, maps)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
            value = self.network(channels, sigma, vector)
        return value.float()  # type: ignore[no-any-return]  # modules are untyped

    def log_ratio(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The residual's R, (B,), nats.

        Raises:
            ValueError: There is none.
        """
        if self.residual is None:
            raise ValueError("this base has no residual")
        channels = self._channels(x, sigma, None)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
            ratio: Tensor = self.residual.network(*self.network.trunk.levels(channels, sigma))
        return ratio.float()

    def energy(
        self, x: Tensor, sigma: Tensor, vector: Tensor | None = None, maps: Tensor | None = None
    ) -> Tensor:
        """E(x, sigma): (B,), nats, up to a constant that depends on sigma alone.

        Args:
            x: Noisy images (B, 3, S, S), clean intensities in [-1, 1].
            sigma: Noise standard deviation (B,), intensity.
            vector: Conditioning (B, E), added to the embedding of the noise level.
            maps: Conditioning (B, n_maps, S, S), beside the image.
        """
        return self.gaussian.energy(x, sigma) + self._learned(x, sigma, vector, maps)

    def denoise(
        self,
        x: Tensor,
        sigma: Tensor,
        vector: Tensor | None = None,
        maps: Tensor | None = None,
        *,
        create_graph: bool = False,
    ) -> Tensor:
        """D(x, sigma) = E[x0 | x] as the energy has it: (B, 3, S, S), by Tweedie's formula.

        ``create_graph`` keeps the graph of the gradient, so that a loss on D trains the weights.
        """
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            value = self._learned(leaf, sigma, vector, maps, scaled=False)
            (slope,) = torch.autograd.grad(value.sum(), leaf, create_graph=create_graph)
        step = self.gaussian.posterior_scale(sigma) * input_scale(sigma)
        return self.gaussian.denoise(x, sigma) - step[:, None, None, None] * slope

    def _learned(
        self,
        x: Tensor,
        sigma: Tensor,
        vector: Tensor | None,
        maps: Tensor | None,
        *,
        scaled: bool = True,
    ) -> Tensor:
        """s f - R, which is added to the Gaussian, s = r sqrt(v) / sigma^2; unscaled f - R / s."""
        scale = self.gaussian.posterior_scale(sigma) * input_scale(sigma) / sigma.square()
        if self.residual is None:
            value = self.correction(x, sigma, vector, maps)
            return scale * value if scaled else value
        channels = self._channels(x, sigma, maps)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
            levels, embedded = self.network.trunk.levels(channels, sigma, vector)
            value = self.network.value(channels, levels, embedded).float()
            ratio = self.residual.network(levels, embedded).float()
        learned: Tensor = scale * value - ratio if scaled else value - ratio / scale
        return learned

    def _channels(self, x: Tensor, sigma: Tensor, maps: Tensor | None) -> Tensor:
        """u, w and the maps of a condition, side by side."""
        wiener = self.gaussian.denoise(x, sigma)
        scaled = x / input_scale(sigma)[:, None, None, None]
        channels = [scaled, wiener] if maps is None else [scaled, wiener, maps]
        return torch.cat(channels, dim=1).contiguous(memory_format=torch.channels_last)
