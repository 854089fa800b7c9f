"""BlindHarmonyDiff as a method: edges of a scan, an image of the target's from these edges, refined by the scan.

Source: H. Jeong, H. Lee, S. Y. Chun, J. Lee, "Efficient and robust 3D blind harmonization for large domain gaps", 2025.
Only the target domain is seen.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from harmony_lite.cohort import Needs, TargetOnly
from harmony_lite.images.checks import check_volumes
from harmony_lite.images.edges import canny
from harmony_lite.images.normalize import pad_to_multiple, percentiles, subject_percentile
from harmony_lite.methods.averaged_image import check_grid, check_packed, mean_image, packed_image, unpacked_image
from harmony_lite.methods.protocol import Harmonizer, check_tensors
from harmony_lite.methods.shipping import Shipping
from harmony_lite.nets.averaged import Averaged
from harmony_lite.nets.draws import first_weights, held_out
from harmony_lite.papers.blindharmonydiff.flow import train_flow
from harmony_lite.papers.blindharmonydiff.network import VelocityNetwork
from harmony_lite.papers.blindharmonydiff.patches import coordinates
from harmony_lite.papers.blindharmonydiff.refinement import refine
from harmony_lite.papers.blindharmonydiff.sampler import sample, velocity_of
from harmony_lite.papers.blindharmonydiff.settings import (
    STARTS,
    VARIANTS,
    BlindHarmonyDiffSettings,
    InferenceSettings,
    inference_of,
    settings_of,
)
from harmony_lite.training import History

__all__ = ["BlindHarmonyDiff"]

AVERAGED_BYTES = 400_000  # of the averaged image in a weights file, beside the network


class BlindHarmonyDiff(Harmonizer):
    """A rectified flow from edges to the target's image, and a refinement by the scan; whole volumes in and out.

    Volumes lie on the grid of the target's people, in the same place (a template's grid), skull-stripped: the network
    knows where in the volume it is. Every scan is scaled to [0, 1] by its own 1st and 99th percentiles, as in the
    paper; the result takes the units that these have on average in the target's volumes. Outside the mask it is 0.

    The variants `paper` and `released` share the weights of `ours` as far as weights are shipped, and refine otherwise.
    """

    name: ClassVar[str] = "blindharmonydiff"
    needs: ClassVar[Needs] = Needs.TARGET_ONLY
    variants: ClassVar[tuple[str, ...]] = VARIANTS
    shipping: ClassVar[Shipping | None] = Shipping(("ours", "slices"))
    takes_slices: ClassVar[bool] = False
    on_template_grid: ClassVar[bool] = True
    is_trained: ClassVar[bool] = True

    def __init__(
        self, settings: BlindHarmonyDiffSettings | None = None, inference: InferenceSettings | None = None
    ) -> None:
        self.settings = settings or BlindHarmonyDiffSettings()
        self.inference = inference or InferenceSettings()
        self.histories: dict[str, History] = {}
        self._network: VelocityNetwork | None = None
        self._packed: dict[str, Tensor] = {}  # the averaged image, each scan scaled before, as a file keeps it
        self._ends = (0.0, 1.0)  # what 0 and 1 become, in the target's units

    @classmethod
    def from_variant(cls, variant: str) -> Self:
        """`ours`, `paper`, `released` or `slices`."""
        return cls(settings_of(variant), inference_of(variant))

    def with_inference(self, **changes: Any) -> Self:
        """The same network used otherwise: `with_inference(start="averaged image")`."""
        other = copy(self)
        other.inference = replace(self.inference, **changes)
        return other

    # ------------------------------------------------------------------------------------------------------------ fit

    def fit(
        self,
        view: TargetOnly,
        *,
        generator: torch.Generator | None = None,
        checkpoint: str | Path | None = None,
        progress: bool = True,
    ) -> Self:
        """Train the network on the target's scans and their edges; the last people are held out.

        Args:
            view: the target's scans.
            generator: of first weights, patches, noise and times; seed 0 when None.
            checkpoint: file from which an interrupted training goes on.
            progress: show a bar.

        Raises:
            ValueError: one person only; scans that are not volumes, not finite or without contrast; volumes that are
                smaller than a patch, or too small for a stride.
        """
        generator = generator or torch.Generator().manual_seed(0)
        model, training, validation = self._prepare(view, generator)
        settings = self.settings.training
        self.histories = {"flow": train_flow(model, training, validation, settings, generator, checkpoint, progress)}
        self._network = (model.average if settings.decay else model.network).eval().requires_grad_(True).cpu()
        return self

    def fingerprint(self, view: TargetOnly) -> float:
        """Loss, mean over the first three batches."""
        generator = torch.Generator().manual_seed(0)
        model, training, validation = self._prepare(view, generator)
        history = train_flow(model, training, validation, self.settings.training, generator, None, False, steps=3)
        return sum(history.losses) / len(history.losses)

    def _prepare(
        self, view: TargetOnly, generator: torch.Generator
    ) -> tuple[Averaged, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """A new network, the averaged image, and images in [-1, 1] and edges (N, D, H, W) to train on and held out."""
        scans = view.target
        check_volumes(scans.images, scans.mask, what="target scans")
        last = held_out(len(scans.images), self.settings.validation_share)
        images = subject_percentile(scans.images, scans.mask) * scans.mask
        self._packed = packed_image(
            torch.from_numpy(mean_image(images)), scans.mask.any(0)[0].cpu(), most_bytes=AVERAGED_BYTES
        )
        low, high = percentiles(scans.images, scans.mask)
        self._ends = float(low.mean()), float(high.mean())
        padded, edges = (self._padded(part.float())[0][:, 0] for part in (images, self.edges_of(images)))
        model = first_weights(lambda: Averaged(self._untrained(self._packed), self.settings.training.decay), generator)
        training, validation = ((2 * padded[people] - 1, edges[people] > 0) for people in (slice(last.start), last))
        return model, training, validation

    def _untrained(self, packed: dict[str, Tensor]) -> VelocityNetwork:
        """A new network, which has the averaged image to look up if it wants that."""
        network = VelocityNetwork(self.settings.network)
        if self.settings.network.from_averaged:
            padded, _ = self._padded(unpacked_image(packed)[None, None])
            network.look_up_in(2 * padded[0, 0] - 1)
        return network

    @property
    def _in_slices(self) -> bool:
        return self.settings.network.dimensions == 2

    def _padded(self, images: Tensor) -> tuple[Tensor, Any]:
        """Volumes filled up with 0 to what the network can halve, and the way back."""
        return pad_to_multiple(images, self.settings.network.divisor)

    # ---------------------------------------------------------------------------------------------------------- parts

    def edges_of(self, images: Tensor) -> Tensor:
        """Edges of scans (N, 1, D, H, W), bool: the share that the settings say, of all voxels."""
        settings = self.settings
        return canny(images, fraction=settings.edge_fraction, sigma=settings.edge_sigma, in_slices=self._in_slices)

    def conditions_of(self, edges: Tensor) -> Tensor:
        """What the network is told beside the image, (N, 4, D, H, W) on the padded grid: edges and coordinates."""
        padded, _ = self._padded(edges.float())
        places = coordinates(padded.shape[2:]).to(padded)
        return torch.cat([padded, places.expand(len(padded), -1, -1, -1, -1)], 1)

    def image_of(self, edges: Tensor) -> Tensor:
        """Equation 4: an image of the target's from edges (N, 1, D, H, W), scaled to [0, 1]; the sampler's end."""
        self.check_fitted()
        device, sampler = edges.device, self.inference.sampler
        network = self._network.to(device).eval()
        _, crop = self._padded(edges)
        conditions = self.conditions_of(edges)
        images = []
        for part in conditions.split(1):  # a volume at a time: memory
            chance = torch.Generator().manual_seed(sampler.seed)
            noise = torch.randn(1, 1, *part.shape[2:], generator=chance).to(device)
            images.append(sample(velocity_of(network, part, sampler), noise, sampler))
        return (crop(torch.cat(images)) + 1) / 2

    @property
    def network(self) -> VelocityNetwork:
        """The velocity, in eval mode."""
        self.check_fitted()
        return self._network

    @property
    def ends(self) -> tuple[float, float]:
        """What 0 and 1 become in the target's units: the mean of its 1st and of its 99th percentiles."""
        self.check_fitted()
        return self._ends

    @property
    def averaged(self) -> Tensor:
        """The target's averaged image, (D, H, W), each scan scaled to [0, 1] before."""
        self.check_fitted()
        return unpacked_image(self._packed)

    # ------------------------------------------------------------------------------------------------------ harmonize

    def _harmonize(self, images: Tensor, mask: Tensor, scanner: str | None) -> Tensor:
        return self.finish(self.begin(images, mask), images, mask)

    def begin(self, images: Tensor, mask: Tensor) -> Tensor:
        """Where the refinement of scans begins, (N, 1, D, H, W), scaled to [0, 1]: the long part of `harmonize`.

        Args:
            images: (N, 1, D, H, W) on the grid of the fit, any units.
            mask: bool, same shape.
        """
        self.check_fitted()
        check_grid(images, self._packed["grid"].tolist())
        start, sources = self.inference.start, subject_percentile(images, mask) * mask
        if start == STARTS[2]:
            return self.averaged.to(sources).repeat(len(sources), 1, 1, 1)[:, None] * mask
        edges = self.edges_of(sources)
        if start == STARTS[1]:
            edges = torch.stack([_shuffled(one, inside) for one, inside in zip(edges, mask, strict=True)])
        if start == STARTS[3]:
            edges = torch.zeros_like(edges)
        return self.image_of(edges) * mask

    def finish(self, begun: Tensor, images: Tensor, mask: Tensor) -> Tensor:
        """Refine what was begun, and bring it to the target's units; several ways to refine may share one beginning."""
        found, sources = begun.clone(), subject_percentile(images, mask) * mask
        for image, source, inside in zip(found, sources, mask, strict=True):
            self._refine(image, source, inside)
        low, high = self._ends
        return (low + found * (high - low)) * mask

    def _refine(self, image: Tensor, source: Tensor, inside: Tensor) -> None:
        """Refine an image (1, D, H, W) in place."""
        heights = range(image.shape[-1]) if self.inference.slice_by_slice else [slice(None)]
        for k in heights:
            voxels = inside[..., k] if self.inference.inside else torch.ones_like(inside[..., k])
            wanted = source[..., k][voxels]
            if len(wanted) > 1 and bool(wanted.min() < wanted.max()):  # a slice without brain has nothing to follow
                image[..., k][voxels] = refine(image[..., k][voxels], wanted, self.inference.refinement)

    # ---------------------------------------------------------------------------------------------------------- state

    @property
    def is_fitted(self) -> bool:
        """Whether there is a network."""
        return self._network is not None

    def state(self) -> dict[str, Tensor]:
        """`flow/NAME` of the network, `averaged/NAME` of the packed image, `ends` (2,): what 0 and 1 become."""
        self.check_fitted()
        packed = {f"averaged/{name}": value.clone() for name, value in self._packed.items()}
        return {**_named(self._network), **packed, "ends": torch.tensor(self._ends)}

    def load_state(self, state: dict[str, Tensor]) -> Self:
        """Take over what an earlier fit learned; the settings have to be those of that fit.

        Raises:
            ValueError: other tensors than a network of these settings has.
        """
        head = "averaged/"
        packed = {name.removeprefix(head): value for name, value in state.items() if name.startswith(head)}
        check_packed(self.name, packed)
        network = self._untrained(packed)
        rest = {name: value for name, value in state.items() if not name.startswith(head)}
        wanted = _named(network)
        check_tensors(self.name, rest, wanted, {"ends": 1})
        with torch.no_grad():
            for name, tensor in wanted.items():
                tensor.copy_(rest[name])
        self._network, self._packed = network.eval(), packed
        self._ends = tuple(rest["ends"].tolist())
        return self


def _shuffled(edges: Tensor, inside: Tensor) -> Tensor:
    """As many edges at random places of the brain, with seed 0."""
    places = torch.nonzero(inside.flatten())[:, 0]
    chosen = places[
        torch.randperm(len(places), generator=torch.Generator().manual_seed(0))[: int(edges.sum())].to(places)
    ]
    out = torch.zeros_like(edges).flatten()
    out[chosen] = True
    return out.reshape(edges.shape)


def _named(network: VelocityNetwork) -> dict[str, Tensor]:
    return {f"flow/{name}": value for name, value in network.state_dict().items()}
