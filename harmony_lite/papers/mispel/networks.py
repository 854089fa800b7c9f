"""MISPEL's networks: an encoder and a decoder for each scanner (section 3.1, Equation 1, Figure 2).

An encoder is a U-Net that takes an axial slice apart into L images, its embeddings; a decoder is L numbers that weigh
them together again.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from harmony_lite.papers.mispel.settings import MispelSettings

__all__ = ["Encoder", "Units", "embeddings_of"]

SLOPE = 0.3  # of LeakyReLU; the paper says "U-Net", the public code takes Keras' default


class Encoder(nn.Module):
    """Enc_i: slices (B, 1, H, W) to embeddings (B, L, H, W), by a U-Net with two poolings.

    Sides that cannot be halved twice are filled up with 0 meanwhile.

    >>> encoder = Encoder(width=32, embeddings=6)
    >>> sum(weight.numel() for weight in encoder.parameters())
    518854
    """

    def __init__(self, width: int, embeddings: int) -> None:
        super().__init__()
        self.first = _two_convolutions(1, width)
        self.second = _two_convolutions(width, 2 * width)
        self.bottom = _two_convolutions(2 * width, 4 * width)
        self.to_second = nn.Conv2d(4 * width, 2 * width, 3, padding=1)
        self.second_again = _two_convolutions(4 * width, 2 * width)
        self.to_first = nn.Conv2d(2 * width, width, 3, padding=1)
        self.first_again = _two_convolutions(2 * width, width)
        self.head = nn.Conv2d(width, embeddings, 3, padding=1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):  # Keras' first weights, as in the public code
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, slices: Tensor) -> Tensor:
        """Same height and width as the slices."""
        height, width = slices.shape[2:]
        full = self.first(functional.pad(slices, (0, -width % 4, 0, -height % 4)))
        half = self.second(functional.max_pool2d(full, 2))
        x = self.bottom(functional.max_pool2d(half, 2))
        x = self.to_second(functional.interpolate(x, scale_factor=2))  # nearest
        x = self.second_again(torch.cat([half, x], 1))
        x = self.to_first(functional.interpolate(x, scale_factor=2))
        x = self.first_again(torch.cat([full, x], 1))
        return functional.leaky_relu(self.head(x), SLOPE)[..., :height, :width]


def _two_convolutions(inputs: int, outputs: int) -> nn.Sequential:
    first, second = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
    return nn.Sequential(first, nn.LeakyReLU(SLOPE), second, nn.LeakyReLU(SLOPE))


class Units(nn.Module):
    """M encoders with their decoders; `weights` (M, L) are the paper's gamma.

    Args:
        scanners: M.
        settings: width, embeddings, first weights, ReLU.
    """

    def __init__(self, scanners: int, settings: MispelSettings) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(Encoder(settings.width, settings.embeddings) for _ in range(scanners))
        self.weights = nn.Parameter(settings.first_weights * torch.randn(scanners, settings.embeddings))
        self.rectified = settings.rectified
        self.encoders.to(memory_format=torch.channels_last)  # a quarter faster on a processor

    def embed(self, slices: Tensor) -> Tensor:
        """Z of slices (B, M, H, W), one of each scanner: (B, M, L, H, W)."""
        return torch.stack([encoder(slices[:, i, None]) for i, encoder in enumerate(self.encoders)], 1).contiguous()

    def decode(self, embeddings: Tensor, scanners: slice = slice(None)) -> Tensor:
        """Equation 1: embeddings (B, M, L, H, W) to images (B, M, H, W), a weighted sum for each scanner.

        Args:
            embeddings: of all scanners, or of some.
            scanners: which they are.
        """
        rows = self.weights[scanners, None] @ embeddings.flatten(3)  # (M, 1, L) @ (B, M, L, H W)
        images = rows[:, :, 0].unflatten(-1, embeddings.shape[-2:])
        return images.relu() if self.rectified else images


@torch.no_grad()
def embeddings_of(units: Units, images: Tensor, batch: int = 16) -> Tensor:
    """Z of many slices (N, M, H, W), some at a time: (N, M, L, H, W)."""
    device = units.weights.device
    return torch.cat([units.embed(part.to(device)).cpu() for part in images.split(batch)])
