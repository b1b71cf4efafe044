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
"""

import torch
from torch import Tensor, nn

from ebmcli.core.gaussian import GaussianEnergy, input_scale
from ebmcli.core.networks import EnergyNetwork, PosteriorNetwork, TrunkConfig


class ResidualEnergy(nn.Module):
    """log p_data(x, sigma) / p_own(x, sigma): noised data against noised samples of an energy.

    The logit of a network that tells the two apart; its optimum is the log ratio of the densities
    when both are shown equally often.

    Source: Gutmann and Hyvarinen (2010), noise-contrastive estimation; Deng et al. (2020), residual
    energies; Kim et al. (2023), discriminator guidance, for the ratio at every noise level.

    ``least`` is the log ratio that 19 of 20 real pictures exceed, read as ``ebm generate`` reads a
    finished picture; minus infinity before it is measured.

    Args:
        config: Shape of the network.
    """

    least: Tensor

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        self.config = config
        self.network = PosteriorNetwork(config, n_cells=1, n_channels=3)
        self.register_buffer("least", torch.tensor(-torch.inf))  # below, a picture is drawn again
        self.autocast = False

    def log_ratio(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Noisy images (B, 3, S, S), noise levels (B,) -> nats, (B,)."""
        scaled = x / input_scale(sigma)[:, None, None, None]
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
            logits = self.network(scaled.contiguous(memory_format=torch.channels_last), sigma)
        return logits[:, 0].float()  # type: ignore[no-any-return]  # modules are untyped


class BaseEnergy(nn.Module):
    """E(x, sigma), optionally under a condition.

    Args:
        gaussian: The Gaussian of the space; its buffers are saved with the network.
        config: Shape of the network.
        n_maps: Channels (B, n_maps, S, S) that a condition adds beside the image.
        residual: Shape of the residual energy's network; None: there is no residual.
    """

    def __init__(
        self,
        gaussian: GaussianEnergy,
        config: TrunkConfig,
        *,
        n_maps: int = 0,
        residual: TrunkConfig | None = None,
    ) -> None:
        super().__init__()
        self.gaussian = gaussian
        self.config = config
        self.network = EnergyNetwork(config, n_channels=6 + n_maps)
        self.residual = None if residual is None else ResidualEnergy(residual)
        self.autocast = False  # the network in bfloat16, sums in float32

    def correction(
        self, x: Tensor, sigma: Tensor, vector: Tensor | None = None, maps: Tensor | None = None
    ) -> Tensor:
        """f(u, w, sigma): (B,), dimensionless, float32."""
        wiener = self.gaussian.denoise(x, sigma)
        scaled = x / input_scale(sigma)[:, None, None, None]
        channels = [scaled, wiener] if maps is None else [scaled, wiener, maps]
        stacked = torch.cat(channels, dim=1).contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
            value = self.network(stacked, sigma, vector)
        return value.float()  # type: ignore[no-any-return]  # modules are untyped

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
        scale = self.gaussian.posterior_scale(sigma) * input_scale(sigma) / sigma.square()
        before = self.gaussian.energy(x, sigma) + scale * self.correction(x, sigma, vector, maps)
        if self.residual is None:
            return before
        return before - self.residual.log_ratio(x, sigma)

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
            value = self.correction(leaf, sigma, vector, maps)
            (slope,) = torch.autograd.grad(value.sum(), leaf, create_graph=create_graph)
        scale = self.gaussian.posterior_scale(sigma) * input_scale(sigma)
        denoised = self.gaussian.denoise(x, sigma) - scale[:, None, None, None] * slope
        if self.residual is None:
            return denoised
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            ratio = self.residual.log_ratio(leaf, sigma)
            (slope,) = torch.autograd.grad(ratio.sum(), leaf, create_graph=create_graph)
        return denoised + sigma.square()[:, None, None, None] * slope
