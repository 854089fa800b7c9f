"""HAIL as a method: features and their transfer learned once, then one reference image says where to go.

Source: A. Parida, Z. Jiang, S. M. Anwar, N. Foreman, N. Stence, M. J. Fisher, R. J. Packer, R. A. Avery,
M. G. Linguraru, "Harmonization Across Imaging Locations (HAIL): One-Shot Learning for Brain MRI", 2023. The paper has
no public code: every point that it leaves open is a setting here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from harmony_lite.cohort import Needs, Scans, Unpaired
from harmony_lite.images.checks import check_volumes
from harmony_lite.images.normalize import pad_to_multiple, percentiles
from harmony_lite.methods.protocol import Harmonizer, check_tensors
from harmony_lite.methods.shipping import Shipping
from harmony_lite.nets.draws import held_out
from harmony_lite.papers.hail.adain import TINY, Style, adain, style_of, weights_at
from harmony_lite.papers.hail.networks import AutoEncoder, radius
from harmony_lite.papers.hail.parts import Part, parts_of
from harmony_lite.papers.hail.phases import Phase, Sites, phase_1, phase_2
from harmony_lite.papers.hail.settings import (
    SCALINGS,
    STATISTICS,
    VARIANTS,
    HailSettings,
    InferenceSettings,
    settings_of,
)
from harmony_lite.training import History, checkpoint_of

__all__ = ["Hail", "Reference"]


@dataclass(frozen=True)
class Reference:
    """What is kept of the one image that says where to go.

    Attributes:
        style: of its deepest features.
        ends: what 0 and 1 become, in its units: the stored inverse of its scaling.
        volume: (1, 1, D, H, W), scaled, and its mask: for statistics in patches; None where it was not kept.
    """

    style: Style
    ends: tuple[float, float]
    volume: tuple[Tensor, Tensor] | None = None


class Hail(Harmonizer):
    """One frozen encoder, AdaIN on its deepest features, one decoder: `harmonize(images, reference=IMAGE)`.

    Volumes in and out, of any shape; the reference may have another one. Without a reference, the target is the first
    site of the fit, by one training person's scan. Scans are scaled to [0, 1] each by itself, and the result takes the
    reference's units; outside the mask it is 0.
    """

    name: ClassVar[str] = "hail"
    needs: ClassVar[Needs] = Needs.UNPAIRED
    variants: ClassVar[tuple[str, ...]] = VARIANTS
    shipping: ClassVar[Shipping | None] = Shipping(target="hail_a")
    takes_reference: ClassVar[bool] = True
    takes_slices: ClassVar[bool] = False
    is_trained: ClassVar[bool] = True

    def __init__(self, settings: HailSettings | None = None, inference: InferenceSettings | None = None) -> None:
        self.settings = settings or HailSettings()
        self.inference = inference or InferenceSettings()
        self.histories: dict[str, History] = {}  # "phase 1", "phase 2"
        self._network: AutoEncoder | None = None
        self._reference: Reference | None = None

    @classmethod
    def from_variant(cls, variant: str) -> Self:
        """One of `VARIANTS`, as large and as long as the active profile says."""
        return cls(settings_of(variant))

    def with_inference(self, **changes: Any) -> Self:
        """The same networks used otherwise: `with_inference(window=64)`."""
        other = copy(self)
        other.inference = replace(self.inference, **changes)
        return other

    # ------------------------------------------------------------------------------------------------------------ fit

    def fit(
        self,
        view: Unpaired,
        *,
        generator: torch.Generator | None = None,
        checkpoint: str | Path | None = None,
        progress: bool = True,
    ) -> Self:
        """Both phases. The last people of every site are held out, and choose the best weights of each phase.

        Where a site has one person only, nobody is held out, and the last weights stay.

        Args:
            view: sites with different people; the target is the first site, the sources follow in their order. Phase 2
                sees as many of them as `settings.transfer.sites` says.
            generator: of first weights and crops; seed 0 when None.
            checkpoint: file from which an interrupted training goes on; each phase adds its name to it.
            progress: show a bar for each phase.

        Raises:
            ValueError: one site only; scans that are not volumes, not finite or without contrast; sites on different
                grids; volumes that are smaller than a crop.
        """
        generator = generator or torch.Generator().manual_seed(0)
        training, validation = self._prepare(view)
        settings, self.histories = self.settings, {}

        def train(phase: Phase, name: str, seen: int | None) -> Any:
            file = checkpoint_of(checkpoint, name.replace(" ", ""))
            sites = training.first(seen), validation.first(seen)
            self.histories[name] = phase.train(*sites, settings, generator, file, progress)
            return phase.model

        features = train(phase_1(settings, generator), "phase 1", settings.features.sites)
        transfer = train(phase_2(features, settings, generator), "phase 2", settings.transfer.sites)
        features.decoder = transfer.decoder
        self._network = features.eval().requires_grad_(False).cpu()
        target = view.target
        self._reference = replace(self._reference_of(target.images[:1].float(), target.mask[:1]), volume=None)
        return self

    def fingerprint(self, view: Unpaired) -> float:
        """Loss of phase 1, mean over the first three batches."""
        generator = torch.Generator().manual_seed(0)
        seen = self.settings.features.sites
        sites = [part.first(seen) for part in self._prepare(view)]
        history = phase_1(self.settings, generator).train(*sites, self.settings, generator, None, False, steps=3)
        return sum(history.losses) / len(history.losses)

    def _prepare(self, view: Unpaired) -> tuple[Sites, Sites]:
        """Scaled scans to train on, and of the people held out."""
        sites = {"the target": view.target, **view.sources}
        if len(sites) < self.settings.transfer.sites:
            raise ValueError(f"sites: found {len(sites)}, wanted at least {self.settings.transfer.sites}")
        parts: dict[bool, list[tuple[Tensor, Tensor]]] = {False: [], True: []}
        for name, scans in sites.items():
            check_volumes(scans.images, scans.mask, what=f"scans of {name}")
            if scans.images.shape[2:] != view.target.images.shape[2:]:
                raise ValueError(
                    f"scans of {name}: found a grid of {tuple(scans.images.shape[2:])} voxels, wanted "
                    f"{tuple(view.target.images.shape[2:])}, as of the target"
                )
            scaled, people = self._scaled(scans)[0][:, 0], len(scans.images)
            last = held_out(people, self.settings.validation_share) if people > 1 else slice(people, people)
            for is_held_out, people in ((False, slice(last.start)), (True, last)):
                parts[is_held_out].append((scaled[people], scans.mask[people, 0]))
        return tuple(
            Sites(torch.cat([p[0] for p in part]), torch.cat([p[1] for p in part]), tuple(len(p[0]) for p in part))
            for part in parts.values()
        )

    def _scaled(self, scans: Scans) -> tuple[Tensor, Tensor]:
        """Scans (N, 1, D, H, W) brought to [0, 1] each by itself, 0 outside the mask; and their ends, (2, N)."""
        images = scans.images.detach().float()
        if self.settings.scaling == SCALINGS[0]:
            ends = torch.stack(percentiles(images, scans.mask))
        else:
            ends = torch.stack([(images * scans.mask).amin((1, 2, 3, 4)), (images * scans.mask).amax((1, 2, 3, 4))])
        low, high = ends[..., None, None, None, None]
        if bool((high <= low).any()):
            raise ValueError("images: found no contrast between the ends of a scan, wanted some")
        return (images - low) / (high - low) * scans.mask, ends

    # ------------------------------------------------------------------------------------------------------ reference

    def _fitted_to(self, reference: Scans) -> Self:
        self.check_fitted()
        check_volumes(reference.images, what="reference")
        other = copy(self)
        with torch.no_grad():
            other._reference = self._reference_of(reference.images, reference.mask)
        return other

    def _reference_of(self, image: Tensor, mask: Tensor) -> Reference:
        scaled, ends = self._scaled(Scans(image, mask))
        self._network.to(scaled.device)
        return Reference(self._style_of_volume(scaled, mask), tuple(ends[:, 0].tolist()), (scaled, mask))

    # ------------------------------------------------------------------------------------------------------ harmonize

    def _harmonize(self, images: Tensor, mask: Tensor, scanner: str | None) -> Tensor:
        low, high = self._reference.ends
        scaled, _ = self._scaled(Scans(images, mask))
        self._network.to(images.device)
        found = torch.cat([self._drawn(*one) for one in zip(scaled.split(1), mask.split(1), strict=True)])
        return (low + found * (high - low)) * mask

    def _drawn(self, scaled: Tensor, mask: Tensor) -> Tensor:
        """One scaled volume (1, 1, D, H, W) in the reference's look."""
        (volume, crop), (inside, _) = self._padded(scaled), self._padded(mask)
        own = self._style_of_volume(scaled, mask)
        wanted = Style(*(part.to(scaled) for part in self._reference.style))
        others = self._padded_reference(volume) if self.inference.in_patches else None
        drawn = torch.zeros_like(volume)
        for part in self._parts(volume.shape[2:], both_ways=True):
            if others is not None:
                if not bool(inside[part.inner].any()):
                    continue
                own, wanted = (self._style_in(part, *pair) for pair in ((volume, inside), others))
            features = self._network.encoder(volume[part.outer])[-1]
            moved = torch.lerp(features, adain(features, own, wanted), self.inference.amount)
            drawn[part.inner] = self._network.decoder(moved)[part.within]
        return crop(drawn)

    # --------------------------------------------------------------------------------------------- style of a volume

    def _padded(self, volumes: Tensor) -> tuple[Tensor, Any]:
        """Volumes or masks filled up with 0 to what the network can halve, and the way back."""
        return pad_to_multiple(volumes.float(), self.settings.network.divisor)

    def _style_of_volume(self, volume: Tensor, mask: Tensor) -> Style:
        """Mean and deviation of the deepest features of a whole volume, gathered part by part: (1, C) each."""
        (volume, _), (inside, _) = self._padded(volume), self._padded(mask)
        count, total, squares = 0.0, 0.0, 0.0
        for part in self._parts(volume.shape[2:]):
            features, weights = self._weighted(part, volume, inside)
            count = count + weights.sum()
            total = total + (weights * features).sum((2, 3, 4))
            squares = squares + (weights * features.square()).sum((2, 3, 4))
        means = total / count
        variances = (squares / count - means.square()).clamp_min(0)  # in double precision: a difference of large sums
        return Style(means.float(), (variances + TINY).sqrt().float())

    def _padded_reference(self, volume: Tensor) -> tuple[Tensor, Tensor]:
        """The reference and its mask, on the grid of a padded scan (ValueError: none kept, or another grid)."""
        if self._reference.volume is None:
            raise ValueError("in_patches: found no reference image, wanted one: harmonize(images, reference=IMAGE)")
        other, mask = (self._padded(kept.to(volume.device))[0] for kept in self._reference.volume)
        if other.shape != volume.shape:
            found, wanted = tuple(other.shape[2:]), tuple(volume.shape[2:])
            raise ValueError(f"in_patches: found a reference of {found} voxels, wanted {wanted}, as of the scan")
        return other, mask

    def _style_in(self, part: Part, volume: Tensor, inside: Tensor) -> Style:
        """Of one part of a volume."""
        return Style(*(moment.float() for moment in style_of(*self._weighted(part, volume, inside))))

    def _weighted(self, part: Part, volume: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """Deepest features of a part, and how much each counts for the statistics; in double precision."""
        features = self._network.encoder(volume[part.outer])[-1][part.coarser(self.settings.network.divisor).within]
        if self.settings.statistics == STATISTICS[0]:
            weights = weights_at(inside[part.inner], features)
        else:
            weights = torch.ones_like(features[:, :1])
        return features.double(), weights.double()

    def _parts(self, sides: Sequence[int], *, both_ways: bool = False) -> Iterator[Part]:
        """The whole volume, or windows of it with as much around each as the encoder, or both networks, look at."""
        sizes, window = self.settings.network, self.inference.window
        if window is None:
            return parts_of(sides, max(sides), 0, sizes.divisor)
        return parts_of(sides, window, radius(sizes, both_ways=both_ways), sizes.divisor)

    # ---------------------------------------------------------------------------------------------------------- state

    @property
    def network(self) -> AutoEncoder:
        """Encoder and decoder, in eval mode."""
        self.check_fitted()
        return self._network

    @property
    def reference(self) -> Reference:
        """Of the image that says where to go."""
        self.check_fitted()
        return self._reference

    @property
    def is_fitted(self) -> bool:
        """Whether there are networks."""
        return self._network is not None

    def state(self) -> dict[str, Tensor]:
        """`network/NAME` of encoder and decoder; `means` and `deviations` (C,), `ends` (2,) of the usual reference."""
        self.check_fitted()
        means, deviations = self._reference.style
        others = {"means": means[0], "deviations": deviations[0], "ends": torch.tensor(self._reference.ends)}
        return {**_named(self._network), **{name: value.clone() for name, value in others.items()}}

    def load_state(self, state: dict[str, Tensor]) -> Self:
        """Take over what an earlier fit learned; the settings have to be those of that fit.

        Raises:
            ValueError: other tensors than networks of these settings have.
        """
        network = AutoEncoder(self.settings.network)
        wanted = _named(network)
        check_tensors(self.name, state, wanted, {"means": 1, "deviations": 1, "ends": 1})
        with torch.no_grad():
            for name, tensor in wanted.items():
                tensor.copy_(state[name])
        self._network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last_3d)
        style = Style(state["means"][None], state["deviations"][None])
        self._reference = Reference(style, tuple(state["ends"].tolist()))
        return self


def _named(network: AutoEncoder) -> dict[str, Tensor]:
    return {f"network/{name}": value for name, value in network.state_dict().items()}
