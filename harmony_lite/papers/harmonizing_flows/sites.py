"""What is adapted to one site by scans of other people there: harmonizers by four rules, and TENT's judge.

Source: F. Beizaee et al., "Harmonizing Flows", 2023, sections 3.2 and 4.2. The paper adapts and scores on the same
people; here the validation people are adapted on, and the test people scored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from harmony_lite.evaluate import metrics
from harmony_lite.evaluate.fits import Fit, Fitted
from harmony_lite.images.intensity_maps import TOP
from harmony_lite.methods import load_method
from harmony_lite.nets.draws import evenly_spread
from harmony_lite.papers.harmonizing_flows.adaptation import Adaptation, harmonized_levels
from harmony_lite.papers.harmonizing_flows.harmonizer import HarmonizingFlows
from harmony_lite.papers.harmonizing_flows.judges import judge
from harmony_lite.simulate import LABELS
from harmony_lite.tasks.structures import StructureUNet

__all__ = ["ENTROPY", "ORACLE", "PLATEAU", "SOURCE_BITS", "STRUCTURES", "AdaptedSite", "SiteFit", "shaded"]

ENTROPY, SOURCE_BITS, ORACLE, PLATEAU = "entropy minimum", "bits", "oracle", "entropy plateau"
STRUCTURES = tuple(range(1, len(LABELS)))
CHECK_EVERY = 4  # steps
JUDGED = 48  # slices that entropy and score are taken of, at each look
SHADING = 0.35  # log of the field in the middle of the brain; at the rim minus as much


class AdaptedSite:
    """Harmonizers and a judge of one target, adapted to one site.

    Attributes:
        methods: Harmonizing Flows by rule, each with its `adaptation`.
        tent: the target's judge after TENT.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.methods: dict[str, HarmonizingFlows] = {}
        self.tent: StructureUNet | None = None

    def adapt(self, images: Tensor, mask: Tensor, labels: Tensor) -> Self:
        """Adapt to scans (N, 1, D, H, W) of a site; labels are looked at by the rule "oracle" alone."""
        own, method = judge(self.target), load_method("harmonizing-flows", "ours", target=self.target)
        levels = evenly_spread(method.slices_of(images, mask), JUDGED)
        truth = evenly_spread(method.labels_of(labels, mask), JUDGED)[:, 0]

        @torch.no_grad()
        def segmented(method: HarmonizingFlows) -> Tensor:
            return own.network(harmonized_levels(method.network, levels) / TOP).softmax(1)  # (B, labels, H, W)

        def entropy(method: HarmonizingFlows) -> float:
            return float(torch.special.entr(segmented(method)).sum(1)[levels[:, 0] > 0].mean())

        def score(method: HarmonizingFlows) -> float:
            found = segmented(method).argmax(1)[None, None]  # one person of many slices
            return float(metrics.dice(found, truth.long()[None, None], labels=STRUCTURES).nanmean())

        stops = {ENTROPY: entropy, SOURCE_BITS: None, ORACLE: score, PLATEAU: entropy}
        method = method.with_adaptation(check_every=CHECK_EVERY)
        self.methods = method.adapted_by(stops, images, mask, progress=False)
        self.tent = own.sharpened(images, mask)
        return self

    def state(self) -> dict[str, Tensor]:
        """The networks' tensors, and what each rule saw."""
        parts = {"tent": self.tent.network} | {f"method/{stop}": one.network for stop, one in self.methods.items()}
        state = {f"{part}/{name}": v for part, network in parts.items() for name, v in network.state_dict().items()}
        for stop, method in self.methods.items():
            found = method.adaptation
            looks = [found.steps, found.bits, found.judged or [0.0] * len(found.steps)]
            state[f"looks/{stop}"] = torch.tensor(looks, dtype=torch.float64)  # (3, looks)
            state[f"kept/{stop}"] = torch.tensor(found.kept)
        return {name: value.contiguous() for name, value in state.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> Self:
        """Take over what was adapted before."""
        first = load_method("harmonizing-flows", "ours", target=self.target)
        for stop in (ENTROPY, SOURCE_BITS, ORACLE, PLATEAU):
            steps, bits, judged = state[f"looks/{stop}"].tolist()
            kept = int(state[f"kept/{stop}"])
            adaptation = Adaptation([int(step) for step in steps], bits, judged, kept)
            self.methods[stop] = first.with_network(_part(state, f"method/{stop}/"), adaptation)
        self.tent = judge(self.target).with_batch_statistics()
        self.tent.network.load_state_dict(_part(state, "tent/"), strict=False)
        return self


@dataclass(frozen=True)
class SiteFit(Fit):
    """`AdaptedSite` as a fit: `scanners` are the target and the site.

    Attributes:
        is_shaded: whether the site's scans are `shaded`.
    """

    is_shaded: bool = False

    @property
    def is_shipped(self) -> bool:
        """No: adapting takes two minutes."""
        return False

    @property
    def label(self) -> str:
        """A file's name for it."""
        return ".".join(["adapted", *self.scanners, *["n4"] * self.corrected, *["shaded"] * self.is_shaded])

    def unfitted(self) -> AdaptedSite:
        """Without networks."""
        return AdaptedSite(self.scanners[0])

    def fitted(self, others: Fitted) -> AdaptedSite:
        """Adapted to the validation people on the site."""
        validation, site = self.people(self.scanners, others.profile)[1], self.scanners[1]
        if self.corrected:
            validation = others.without_fields(validation)
        scans, mask = validation.scans(site), validation.masks(site)
        scans = shaded(scans, mask) if self.is_shaded else scans
        return self.unfitted().adapt(scans, mask, validation.labels)


def shaded(images: Tensor, mask: Tensor) -> Tensor:
    """Scans that are twice as bright in the middle of the brain as at its rim, as strong transmit fields make them.

    No curve of intensities takes that back: grey matter in the middle becomes brighter than white matter at the rim.

    Args:
        images: (N, 1, D, H, W).
        mask: bool, same shape.
    """
    out = []
    for image, inside in zip(images, mask, strict=True):
        places = inside[0].nonzero().float()
        centre, radius = places.mean(0), (places.amax(0) - places.amin(0)) / 2
        axes = [torch.arange(side).float() for side in image.shape[1:]]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
        distance = ((grid - centre) / radius).square().sum(-1).clamp_max(1)
        out.append(image * (SHADING * (1 - 2 * distance)).exp())
    return torch.stack(out)


def _part(state: Mapping[str, Tensor], head: str) -> dict[str, Tensor]:
    return {name.removeprefix(head): value for name, value in state.items() if name.startswith(head)}
