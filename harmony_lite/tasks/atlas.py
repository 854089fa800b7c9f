"""Labels of a skull-stripped scan by an atlas: where a structure lies in people, and how bright it is on the target.

A Bayes classifier. Each voxel takes the label with the largest

    log prior_k(voxel) + log p_k(intensity),

the prior being how often training people have label k there (they lie in template space), the density how often label
k has that intensity. Both are learned from scans of the target domain only, so the classifier knows the target's
contrast and does worse on another scanner's: what papers ask of a network trained on the target, in small.

After B. Fischl et al., "Whole brain segmentation", Neuron 33, 2002, reduced to its two terms: there the densities also
change with the place, and neighbouring labels depend on each other; here each label has one density for the whole
brain, a smoothed histogram, and each voxel stands alone. It is no substitute for a network, and its numbers never
belong in one table with those of `tissue.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Self

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from harmony_lite.images.checks import check_volumes
from harmony_lite.images.normalize import foreground, percentiles
from harmony_lite.tasks.tissue import spacing_in_mm

__all__ = ["AtlasClassifier", "AtlasSettings"]

RANGE = (-0.5, 1.5)  # of the histograms: 0 and 1 are a scan's 1st and 99th percentile; beyond lie vessels and noise
MOST_LABELS = 256  # they are written as uint8


@dataclass(frozen=True)
class AtlasSettings:
    """How much the two terms are smoothed.

    The two widths have the best sum, of those tried, of mean Dice over three tissues (0.866) and over fourteen
    structures (0.785), on the quick profile's four validation people on the target. With half or twice of either the
    sum is at most 0.03 lower; ten times more or less of either floor moves either mean by about 0.001 at most.

    Attributes:
        prior_width_mm: standard deviation of the Gaussian that smooths the prior: people differ by more than the few
            who were trained on show.
        prior_floor: so many scans' worth of each label's share of the brain is added to the prior at every voxel, so
            that nobody's structure is impossible anywhere and a voxel outside all training brains has a prior.
        bins: of each histogram over `RANGE`.
        density_width: standard deviation, in bins, of the Gaussian that smooths the histograms: small structures have
            few voxels. 4 of 128 bins are a sixteenth of the way from the 1st to the 99th percentile.
        density_floor: share of each density that is uniform: no intensity excludes a label.
    """

    prior_width_mm: float = 1.5
    prior_floor: float = 0.1
    bins: int = 128
    density_width: float = 4.0
    density_floor: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("prior_width_mm", "density_width"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name}: found {getattr(self, name):g}, wanted 0 or more")
        if not 0 < self.prior_floor < float("inf"):
            raise ValueError(f"prior_floor: found {self.prior_floor:g}, wanted above 0")
        if not 0 < self.density_floor < 1:
            raise ValueError(f"density_floor: found {self.density_floor:g}, wanted between 0 and 1")
        if int(self.bins) != self.bins or self.bins < 2:
            raise ValueError(f"bins: found {self.bins}, wanted a whole number of at least 2")


class AtlasClassifier:
    """Prior and densities of the target domain: `fit` on its training people, then `segment` any scan on that grid.

    >>> bright = torch.zeros(1, 1, 2, 2, 8)
    >>> bright[..., 1:7] = torch.tensor([1.0, 1.1, 1.2, 4.0, 4.1, 4.2])
    >>> labels = (bright > 0).byte() + (bright > 3).byte()
    >>> atlas = AtlasClassifier().fit(bright, labels > 0, labels, spacing=2.0)
    >>> atlas.segment(100 + 5 * bright, labels > 0)[0, 0, 0, 0]
    tensor([0, 1, 1, 1, 2, 2, 2, 0], dtype=torch.uint8)
    """

    def __init__(self, settings: AtlasSettings | None = None) -> None:
        self.settings = settings or AtlasSettings()
        self._scans = 0
        self._log_prior: Tensor | None = None  # (K, D, H, W) float16; -inf for a label that no training person has
        self._log_density: Tensor | None = None  # (K, bins) float32

    @property
    def classifier(self) -> str:
        """What makes the labels; it stands beside every number that comes of them.

        Raises:
            ValueError: not fitted.
        """
        self._fitted()
        return f"atlas prior and intensity densities of {self._scans} target scans"

    def fit(self, images: Tensor, mask: Tensor, labels: Tensor, *, spacing: float | Sequence[float]) -> Self:
        """Learn where each label lies and how bright it is.

        Args:
            images: (N, 1, D, H, W) floating point, skull-stripped scans of the target domain, any units.
            mask: bool, same shape: the brain.
            labels: integers, same shape, 0 to K - 1 for any K up to 256; 0 inside the mask is a class like the others,
                and whatever lies outside the mask is not looked at. A label between them that nobody has is never
                chosen.
            spacing: voxel size in mm, one number or three.

        Raises:
            ValueError: not volumes, not finite, without contrast inside the mask; a mask or labels of another shape or
                type; a negative or too large label; fewer than two labels inside the mask; a voxel size that is not
                positive.
        """
        images, mask, lower, upper = _checked(images, mask)
        labels = _checked_labels(labels, mask)
        widths = [self.settings.prior_width_mm / size for size in spacing_in_mm(spacing)]
        kinds, bins = int(labels[mask].max()) + 1, self.settings.bins
        counts = torch.zeros(kinds, images[0].numel())  # of people, per label and voxel
        histograms = torch.zeros(kinds, bins, dtype=torch.float64)
        for index in range(len(images)):
            where = mask[index].flatten().nonzero().squeeze(1)
            label = labels[index].flatten()[where].long()
            found = self._bins(images[index].flatten()[where], lower[index], upper[index])
            counts[label, where] += 1  # each voxel of a scan occurs once
            histograms += torch.bincount(label * bins + found, minlength=kinds * bins).reshape(kinds, bins)
        self._log_prior = _log_prior(counts.reshape(kinds, *images.shape[2:]), widths, self.settings.prior_floor)
        self._log_density = _log_density(histograms, self.settings)
        self._scans = len(images)
        return self

    def segment(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """The most probable label of every voxel.

        Args:
            images: (N, 1, D, H, W) floating point, skull-stripped, any units, on the grid of the training scans.
            mask: bool, same shape: the brain; the foreground where absent.

        Returns:
            (N, 1, D, H, W) uint8; 0 outside the mask.

        Raises:
            ValueError: not fitted; not volumes, not finite, without contrast; a mask of another shape; another grid.
        """
        log_prior, log_density = self._fitted()
        device = images.device
        images, mask, lower, upper = _checked(images, mask, grid=tuple(log_prior.shape[1:]))
        segmented = torch.zeros(images.shape, dtype=torch.uint8)
        for index in range(len(images)):
            inside = mask[index, 0]
            bins = self._bins(images[index, 0][inside], lower[index], upper[index])
            best = torch.full(bins.shape, -torch.inf)
            chosen = torch.zeros(bins.shape, dtype=torch.uint8)
            for label in range(len(log_prior)):  # one after the other: all at once would take K times the memory
                score = log_prior[label][inside].float() + log_density[label][bins]
                chosen[score > best] = label
                best = torch.maximum(best, score)
            segmented[index, 0][inside] = chosen
        return segmented.to(device)

    def state(self) -> dict[str, Tensor]:
        """What `fit` learned, as named tensors, with the settings; 18 MB for fifteen labels at 2 mm.

        Raises:
            ValueError: not fitted.
        """
        log_prior, log_density = self._fitted()
        return {
            "log_prior": log_prior,
            "log_density": log_density,
            "scans": torch.tensor(self._scans),
            "settings": torch.tensor(astuple(self.settings), dtype=torch.float64),
        }

    def load_state(self, state: dict[str, Tensor]) -> Self:
        """Take over what an earlier `fit` with the same settings learned; returns itself.

        Raises:
            ValueError: other tensors or shapes than `state` gives, or other settings.
        """
        wanted = {"log_prior", "log_density", "scans", "settings"}
        if set(state) != wanted:
            raise ValueError(f"state: found {sorted(state)}, wanted {sorted(wanted)}")
        own, settings = astuple(self.settings), tuple(state["settings"].tolist())
        if settings != own:
            raise ValueError(f"state: found the settings {settings}, wanted {own}")
        prior, density = state["log_prior"], state["log_density"]
        if prior.ndim != 4 or tuple(density.shape) != (len(prior), self.settings.bins):
            raise ValueError(
                f"state: found log_prior {tuple(prior.shape)} and log_density {tuple(density.shape)}, "
                f"wanted (K, D, H, W) and (K, {self.settings.bins})"
            )
        self._log_prior, self._log_density = prior.cpu().half(), density.cpu().float()
        self._scans = int(state["scans"])
        return self

    def _fitted(self) -> tuple[Tensor, Tensor]:
        if self._log_prior is None or self._log_density is None:
            raise ValueError("atlas: found one that is not fitted, wanted fit or load_state before")
        return self._log_prior, self._log_density

    def _bins(self, values: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """The histogram's bin of each value; what lies beyond `RANGE` goes into the first or the last."""
        scaled = (values - lower) / (upper - lower)
        position = (scaled - RANGE[0]) / (RANGE[1] - RANGE[0]) * self.settings.bins
        return position.clamp(0, self.settings.bins - 1).long()


def _log_prior(counts: Tensor, widths: Sequence[float], floor: float) -> Tensor:
    """Share of people with each label at each voxel, smoothed: (K, D, H, W) float16.

    Labels and brains are smoothed alike and divided, so the shares sum to 1 and the brain's rim is not thinned.
    """

    def smoothed(volume: Tensor) -> Tensor:
        return torch.from_numpy(gaussian_filter(volume.numpy(), widths, mode="constant"))

    shares = counts.flatten(1).double().sum(1)
    shares = (shares / shares.sum()).float()
    brains = smoothed(counts.sum(0)) + floor
    logs = torch.empty(counts.shape, dtype=torch.float16)
    for label, count in enumerate(counts):
        logs[label] = ((smoothed(count) + floor * shares[label]) / brains).log()
    return logs


def _log_density(histograms: Tensor, settings: AtlasSettings) -> Tensor:
    """Probability of each bin given the label: (K, bins) float32; uniform for a label without a voxel."""
    smoothed = gaussian_filter(histograms.numpy(), (0, settings.density_width), mode="reflect")  # keeps the sum
    total = smoothed.sum(1, keepdims=True)
    density = np.where(total > 0, smoothed / np.where(total > 0, total, 1), 1 / settings.bins)
    mixed = (1 - settings.density_floor) * density + settings.density_floor / settings.bins
    return torch.from_numpy(np.log(mixed)).float()


def _checked(
    images: Tensor, mask: Tensor | None, *, grid: tuple[int, ...] | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images and mask on the CPU, and each image's 1st and 99th percentile inside its mask."""
    check_volumes(images, mask)
    if not images.is_floating_point():
        raise ValueError(f"images: found {images.dtype}, wanted floating point")
    if grid is not None and tuple(images.shape[2:]) != grid:
        raise ValueError(f"images: found the grid {tuple(images.shape[2:])}, wanted the training scans' {grid}")
    images = images.detach().cpu().float()
    mask = foreground(images) if mask is None else mask.cpu()
    lower, upper = percentiles(images, mask)
    flat = torch.nonzero(upper <= lower).flatten().tolist()
    if flat:
        value = float(lower[flat[0]])
        raise ValueError(f"images: found image {flat[0]} constant at {value:g} inside its mask, wanted contrast there")
    return images, mask, lower, upper


def _checked_labels(labels: Tensor, mask: Tensor) -> Tensor:
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels: found {labels.dtype}, wanted integers")
    if labels.shape != mask.shape:
        raise ValueError(f"labels: found shape {tuple(labels.shape)}, wanted {tuple(mask.shape)}")
    labels = labels.detach().cpu()
    present = labels[mask].unique().tolist()
    if present[0] < 0 or present[-1] >= MOST_LABELS:
        raise ValueError(f"labels: found {present[0]} to {present[-1]} inside the mask, wanted 0 to {MOST_LABELS - 1}")
    if len(present) < 2:
        raise ValueError(f"labels: found only {present[0]} inside the mask, wanted at least two labels to tell apart")
    return labels
