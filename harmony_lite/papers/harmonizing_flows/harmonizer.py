"""Harmonizing Flows as a method: trained on the target alone, then adapted to each site by its scans alone.

Source: F. Beizaee, C. Desrosiers, G. A. Lodygensky, J. Dolz, "Harmonizing Flows: Unsupervised MR Harmonization Based on
Normalizing Flows", 2023. What the paper calls the source domain is the target here: the look that scans are brought to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from harmony_lite.cohort import Needs, TargetOnly
from harmony_lite.images.checks import check_images, check_volumes
from harmony_lite.images.intensity_maps import TOP
from harmony_lite.images.normalize import grey_levels, pad_to_multiple, percentiles
from harmony_lite.images.slices import brain_slices, through_slices
from harmony_lite.methods.averaged_image import check_grid
from harmony_lite.methods.protocol import Harmonizer, check_tensors
from harmony_lite.methods.shipping import Shipping
from harmony_lite.nets.draws import first_weights, held_out
from harmony_lite.papers.harmonizing_flows.adaptation import Adaptation, Judge, adapt_by, harmonized_levels
from harmony_lite.papers.harmonizing_flows.flow import GuidedFlow
from harmony_lite.papers.harmonizing_flows.network import HarmonizerNetwork
from harmony_lite.papers.harmonizing_flows.settings import SITES, VARIANTS, HarmonizingFlowsSettings, settings_of
from harmony_lite.papers.harmonizing_flows.training import bits_of, pretrain, train_flow
from harmony_lite.training import History, checkpoint_of

__all__ = ["HarmonizingFlows"]


class HarmonizingFlows(Harmonizer):
    """A flow of the target's coronal slices, and a harmonizer that it guides; volumes in and out, slice by slice.

    `harmonize` takes the pre-trained harmonizer, or after `adapted` the one of that site. Every volume is brought to
    256 grey levels by its own 99.9th percentile; the result takes the units that this percentile has on average in the
    target's volumes.
    """

    name: ClassVar[str] = "harmonizing-flows"
    needs: ClassVar[Needs] = Needs.TARGET_ONLY
    variants: ClassVar[tuple[str, ...]] = VARIANTS
    shipping: ClassVar[Shipping | None] = Shipping(
        ("ours", "unguided"), SITES[0], also=tuple(("ours", site) for site in SITES[1:]), shared=False
    )
    takes_slices: ClassVar[bool] = False
    on_template_grid: ClassVar[bool] = True
    is_trained: ClassVar[bool] = True
    adapts: ClassVar[bool] = True

    def __init__(self, settings: HarmonizingFlowsSettings | None = None) -> None:
        self.settings = settings or HarmonizingFlowsSettings()
        self.histories: dict[str, History] = {}
        self.adaptation: Adaptation | None = None  # of the last `adapted`
        self._flow: GuidedFlow | None = None
        self._network: HarmonizerNetwork | None = None
        self._grid: tuple[int, ...] = ()  # (D, H, W) of the target's scans
        self._bits = 0.0  # per dimension, of the people held out
        self._top = 1.0  # what level 255 becomes, in the target's units

    @classmethod
    def from_variant(cls, variant: str) -> Self:
        """`ours`, `paper`, `released` or `unguided`."""
        return cls(settings_of(variant))

    def with_adaptation(self, **changes: Any) -> Self:
        """The same networks with another way to adapt: `with_adaptation(stop="never", most_steps=10)`."""
        other = copy(self)
        other.settings = replace(self.settings, adaptation=replace(self.settings.adaptation, **changes))
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
        """Train the flow and pre-train the harmonizer, each on the same people; the last ones are held out.

        Args:
            view: the target's scans.
            generator: of first weights, batches and noise; seed 0 when None. Either training begins with its seed.
            checkpoint: file from which an interrupted training goes on; each part adds its name to it.
            progress: show a bar for each part.

        Raises:
            ValueError: one person only; scans that are not volumes, not finite or without contrast; coronal slices that
                are too small for the networks, or too few for a batch.
        """
        seed = 0 if generator is None else generator.initial_seed()
        training, validation = self._prepare(view, seed)
        chances = [torch.Generator().manual_seed(seed) for _ in range(2)]
        files = [checkpoint_of(checkpoint, part) for part in ("flow", "harmonizer")]
        settings = self.settings
        self.histories = {
            "flow": train_flow(self._flow, training, validation, settings.flow, chances[0], files[0], progress),
            "harmonizer": pretrain(
                self._network, training, validation, settings.network, chances[1], files[1], progress
            ),
        }
        self._flow.eval().cpu()
        self._network.eval().cpu()
        self._bits = bits_of(self._flow, validation)
        return self

    def fingerprint(self, view: TargetOnly) -> float:
        """Loss of the flow, mean over the first three batches."""
        training, validation = self._prepare(view, 0)
        chance = torch.Generator().manual_seed(0)
        history = train_flow(self._flow, training, validation, self.settings.flow, chance, None, False, steps=3)
        return sum(history.losses) / len(history.losses)

    def _prepare(self, view: TargetOnly, seed: int) -> tuple[Tensor, Tensor]:
        """New networks, the target's unit, and coronal slices of training and of held-out people."""
        scans = view.target
        check_volumes(scans.images, scans.mask, what="target scans")
        last = held_out(len(scans.images), self.settings.validation_share)
        self._grid = tuple(scans.images.shape[2:])
        self._top = float(percentiles(scans.images, scans.mask, 0.0, 99.9)[1].mean())
        training, validation = (
            self.slices_of(scans.images[people], scans.mask[people]) for people in (slice(last.start), last)
        )
        self._check_slices(training)
        chance = torch.Generator().manual_seed(seed)
        self._flow = first_weights(self._new_flow, chance)
        self._network = first_weights(self._new_network, chance)
        return training, validation

    def _check_slices(self, training: Tensor) -> None:
        batch, sides = max(self.settings.flow.batch, self.settings.network.batch), (self._grid[0], self._grid[2])
        if min(sides) < self._multiple:
            found = " x ".join(map(str, sides))
            raise ValueError(f"target scans: found coronal slices of {found}, wanted at least {self._multiple} a side")
        if len(training) < batch:
            raise ValueError(f"target scans: found {len(training)} coronal slices, wanted at least {batch}, one batch")

    def slices_of(self, images: Tensor, mask: Tensor) -> Tensor:
        """Coronal slices with brain of volumes (N, 1, D, H, W): (B, 1, D', W') levels 0 to 255, filled up with 0.

        Sides are filled up to what the flow can halve; x is axis 2, so that a mirrored slice is mirrored left to right.
        """
        return pad_to_multiple(_coronal(grey_levels(images * mask, mask), mask), self._multiple)[0]

    def labels_of(self, labels: Tensor, mask: Tensor) -> Tensor:
        """The labels (N, 1, D, H, W) of the same slices, (B, 1, D', W'), filled up with 0 likewise."""
        return pad_to_multiple(_coronal(labels, mask), self._multiple)[0]

    @property
    def _multiple(self) -> int:
        flow, network = self.settings.flow.sizes.widths, self.settings.network.widths
        return max(4 * 2 ** (len(flow) - 1), 2 ** (len(network) - 1))

    def _new_flow(self) -> GuidedFlow:
        size = [side + -side % self._multiple for side in (self._grid[0], self._grid[2])]  # of a coronal slice
        return GuidedFlow(size, self.settings.flow.sizes)

    def _new_network(self) -> HarmonizerNetwork:
        ours = self.settings.network.identity
        return HarmonizerNetwork(self.settings.network.widths, identity=ours, unit=TOP if ours else 1.0)

    # ----------------------------------------------------------------------------------------------------- adaptation

    @property
    def guide(self) -> GuidedFlow:
        """The flow, which knows the target."""
        self.check_fitted()
        return self._flow

    @property
    def network(self) -> HarmonizerNetwork:
        """The harmonizer's network: pre-trained, or of one site after `adapted`."""
        self.check_fitted()
        return self._network

    @property
    def target_bits(self) -> float:
        """Bits per dimension of the target's people who were held out: where the rule of bits stops."""
        self.check_fitted()
        return self._bits

    def adapted(
        self,
        images: Tensor,
        mask: Tensor,
        *,
        judge: Callable[[Self], float] | None = None,
        generator: torch.Generator | None = None,
        progress: bool = True,
    ) -> Self:
        """A method for one site, whose harmonizer was moved on some scans of that site (Equation 6).

        Nothing but these scans is looked at. The people that the method is then used on may be others; the paper adapts
        and scores on the same.

        Args:
            images: (N, 1, D, H, W), two people or more, scanner units.
            mask: bool, same shape: the brain.
            judge: method -> mean entropy of a task's predictions after it, or its score for the rule "oracle".
            generator: of batches and noise; seed 0 when None.
            progress: show a bar.

        Raises:
            ValueError: one scan only, scans of another grid than the target's, a rule without what it needs.
        """
        stop = self.settings.adaptation.stop
        return self.adapted_by({stop: judge}, images, mask, generator=generator, progress=progress)[stop]

    def adapted_by(
        self,
        stops: Mapping[str, Callable[[Self], float] | None],
        images: Tensor,
        mask: Tensor,
        *,
        generator: torch.Generator | None = None,
        progress: bool = True,
    ) -> dict[str, Self]:
        """As `adapted`, by several rules that look at the same adaptation: rules with their judges, None for none."""
        self.check_fitted()
        check_images(images, mask)
        if images.ndim != 5 or len(images) < 2:
            raise ValueError(f"scans: found shape {tuple(images.shape)}, wanted two volumes or more, (N, 1, D, H, W)")
        check_grid(images, self._grid)
        slices = self.slices_of(images.float(), mask)

        @cache  # two rules that share a judge have to share what asks it
        def of_network(judge: Callable[[Self], float]) -> Judge:
            return lambda network: judge(self._with_network(network))

        found = adapt_by(
            self._network, self._flow, slices, self.settings.adaptation,
            generator or torch.Generator().manual_seed(0),
            stops={stop: judge and of_network(judge) for stop, judge in stops.items()},
            target_bits=self._bits, progress=progress,
        )  # fmt: skip
        methods = {}
        for stop, (network, adaptation) in found.items():
            methods[stop] = self._with_network(network)
            methods[stop].adaptation = adaptation
        return methods

    def with_network(self, state: Mapping[str, Tensor], adaptation: Adaptation) -> Self:
        """The method of a site from what an earlier adaptation left: its network's tensors, and what happened."""
        network = self._new_network()
        network.load_state_dict(state)
        other = self._with_network(network.eval())
        other.adaptation = adaptation
        return other

    def _with_network(self, network: HarmonizerNetwork) -> Self:
        other = copy(self)
        other._network = network
        return other

    # ------------------------------------------------------------------------------------------------------ harmonize

    def _harmonize(self, images: Tensor, mask: Tensor, scanner: str | None) -> Tensor:
        check_grid(images, self._grid)
        network = self._network.to(images.device).eval()

        def run(slices: Tensor, *_: Tensor) -> Tensor:
            padded, crop = pad_to_multiple(slices, network.divisor)
            return crop(harmonized_levels(network, padded))

        levels = grey_levels(images * mask, mask)
        coronal = through_slices(levels.transpose(3, 4), mask.transpose(3, 4), run)
        return coronal.transpose(3, 4) * (self._top / TOP)

    # ---------------------------------------------------------------------------------------------------------- state

    @property
    def is_fitted(self) -> bool:
        """Whether there are networks."""
        return self._flow is not None and self._network is not None

    def state(self) -> dict[str, Tensor]:
        """`flow/NAME`, `harmonizer/NAME`, `grid` (3,), and `numbers`: the target's bits, and what 255 becomes."""
        self.check_fitted()
        numbers = {"grid": torch.tensor(self._grid), "numbers": torch.tensor([self._bits, self._top])}
        return {**_named(self._flow, self._network), **numbers}

    def load_state(self, state: dict[str, Tensor]) -> Self:
        """Take over what an earlier fit learned; the settings have to be those of that fit.

        Raises:
            ValueError: other tensors than networks of these settings have.
        """
        if "grid" not in state or state["grid"].shape != (3,):
            raise ValueError(f"{self.name}: found no grid of three sides, wanted weights of this method")
        self._grid = tuple(state["grid"].tolist())
        flow, network = self._new_flow(), self._new_network()
        wanted = _named(flow, network)
        check_tensors(self.name, state, wanted, {"grid": 1, "numbers": 1})
        with torch.no_grad():
            for name, tensor in wanted.items():
                tensor.copy_(state[name])
        self._flow, self._network = flow.eval(), network.eval()
        self._bits, self._top = state["numbers"].tolist()
        return self


def _coronal(volumes: Tensor, mask: Tensor) -> Tensor:
    """All coronal slices with brain, (B, 1, D, W), of volumes (N, 1, D, H, W) and a mask of the same shape."""
    return brain_slices(volumes.transpose(3, 4), mask.transpose(3, 4))  # y is the last axis now


def _named(flow: GuidedFlow, network: HarmonizerNetwork) -> dict[str, Tensor]:
    """The tensors of both networks themselves."""
    parts = {"flow": flow, "harmonizer": network}
    return {f"{part}/{name}": value for part, module in parts.items() for name, value in module.state_dict().items()}
