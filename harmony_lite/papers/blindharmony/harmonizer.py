"""BlindHarmony as a method: the prior of the target's slices and the loop, fitted, kept, and applied to volumes.

Source: H. Jeong, H. Byun, D. U. Kang, J. Lee, "BlindHarmony: 'Blind' Harmonization for MR Images via Flow model", ICCV
2023. Only the target domain is seen. The flow is in prior.py, the loop in optimization.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from harmony_lite.cohort import Needs, TargetOnly
from harmony_lite.images.checks import check_volumes
from harmony_lite.images.normalize import slice_minmax
from harmony_lite.images.slices import brain_slices, mean_tops, through_slices
from harmony_lite.methods.averaged_image import check_grid, check_packed, packed_image, unpacked_image, without_height
from harmony_lite.methods.protocol import Harmonizer, check_names
from harmony_lite.methods.shipping import Shipping
from harmony_lite.nets.draws import first_weights, held_out
from harmony_lite.nets.flows import MIXINGS
from harmony_lite.papers.blindharmony.optimization import VARIANTS, LoopSettings, Result, optimise
from harmony_lite.papers.blindharmony.prior import SIZES, Encoding, FlowSettings, new_flow, train_prior
from harmony_lite.profiles import sized
from harmony_lite.training import History
from harmony_lite.weights import without_counters

__all__ = ["BlindHarmony"]

START_BYTES = 120_000  # of the averaged slices in a weights file, beside the flow
BATCH = {"cpu": 16, "cuda": 64}  # slices that go through the loop at once


class BlindHarmony(Harmonizer):
    """The prior of the target's axial slices, and the loop; volumes in and out, slice by slice.

    Volumes lie on the grid of the target's people, in the same place (a template's grid), skull-stripped: the averaged
    slice x0 is one of a height. Every slice is scaled by its own minimum and maximum, as in the paper; the result takes
    the units that target slices of that height have on average.

    The variants share one flow, which is shipped once.
    """

    name: ClassVar[str] = "blindharmony"
    needs: ClassVar[Needs] = Needs.TARGET_ONLY
    variants: ClassVar[tuple[str, ...]] = tuple(VARIANTS)
    shipping: ClassVar[Shipping | None] = Shipping(variants=("ours",))
    is_slicewise: ClassVar[bool] = True
    on_template_grid: ClassVar[bool] = True
    steps_by_sign: ClassVar[bool] = True  # of the edge term, Equation 3
    is_trained: ClassVar[bool] = True

    def __init__(self, loop: LoopSettings | None = None, prior: FlowSettings | None = None) -> None:
        self.loop = loop or VARIANTS["ours"]
        self.prior = prior or sized(SIZES)
        self.histories: dict[str, History] = {}
        self._flow: Any = None
        self._packed: dict[str, Tensor] = {}  # the averaged slices as a file keeps them, in 8 bits
        self._start: Tensor | None = None  # (D, H, W): averaged slices, each scaled to [0, 1] before
        self._tops: Tensor | None = None  # (W,): the slices' mean maximum, target units; 0 where nobody has brain
        self._moments: Tensor | None = None  # (W, 2): mean and deviation of one person's scaled slice, inside the brain

    @classmethod
    def from_variant(cls, variant: str) -> Self:
        """`ours`, `paper` or `released`."""
        return cls(VARIANTS[variant])

    def with_loop(self, **changes: Any) -> Self:
        """The same prior with other settings of the loop: `with_loop(alpha=0.0)`."""
        other = copy(self)
        other.loop = replace(self.loop, **changes)
        return other

    def fit(
        self,
        view: TargetOnly,
        *,
        generator: torch.Generator | None = None,
        checkpoint: str | Path | None = None,
        progress: bool = True,
    ) -> Self:
        """Train the prior on the target's slices; the best weights by held-out people are kept.

        Args:
            view: target scans on one grid in template space.
            generator: of batches, noise and first weights; seed 0 when None.
            checkpoint: file from which an interrupted training goes on.
            progress: show a bar.

        Raises:
            ValueError: scans that are not volumes, not finite or without contrast; a grid that the flow cannot fold.
        """
        generator = generator or torch.Generator().manual_seed(0)
        training, validation = self._prepare(view, generator)
        history = train_prior(self._flow, training, validation, self.prior, generator, checkpoint, progress)
        self.histories = {"prior": history}
        self._flow.eval()
        return self

    def fingerprint(self, view: TargetOnly) -> float:
        """Bits per pixel, mean over the first three batches."""
        generator = torch.Generator().manual_seed(0)
        training, validation = self._prepare(view, generator)
        history = train_prior(self._flow, training, validation, self.prior, generator, None, False, steps=3)
        return sum(history.losses) / len(history.losses)

    def _prepare(self, view: TargetOnly, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A new flow, the averaged slices, and slices (B, 1, H, W) of training and of held-out people."""
        scans = view.target
        check_volumes(scans.images, scans.mask, what="target scans")
        last = held_out(len(scans.images), self.prior.validation_share)
        images = slice_minmax(scans.images * scans.mask)
        averaged = images.mean(0)[0]
        self._packed = packed_image(averaged, averaged > 0, most_bytes=START_BYTES)
        self._start = unpacked_image(self._packed)  # as a file keeps it, so that loading changes nothing
        self._tops = mean_tops(scans.images * scans.mask)
        self._moments = _mean_moments(images, scans.mask)
        self._flow = first_weights(lambda: new_flow(self.prior, images.shape[2:4]), generator)
        return tuple(brain_slices(images[people], scans.mask[people]) for people in (slice(last.start), last))

    # ------------------------------------------------------------------------------------------------------ harmonize

    def _harmonize(self, images: Tensor, mask: Tensor, scanner: str | None) -> Tensor:
        if images.shape[-1] == 1:
            return self._without_heights()._slice_by_slice(images, mask)
        return self._slice_by_slice(images, mask)

    def _slice_by_slice(self, images: Tensor, mask: Tensor) -> Tensor:
        start, tops, _ = self._fitted()
        check_grid(images, start.shape)
        scaled = slice_minmax(images * mask)
        return through_slices(scaled, mask, lambda *part: self._loop(*part).images, tops=tops, batch=None)

    def _without_heights(self) -> Self:
        """The same method for slices at no height: averaged slice, unit and moments are the mean over all heights."""
        start, tops, moments = self._fitted()
        other = copy(self)
        other._start, usable = without_height(start), tops > 0
        other._tops, other._moments = tops[usable].mean(0, keepdim=True), moments[usable].mean(0, keepdim=True)
        return other

    @torch.no_grad()
    def slices(self, image: Tensor, inside: Tensor, heights: Sequence[int] | Tensor) -> Result:
        """Some axial slices of one volume, in [0, 1], with what the loop says about them.

        Args:
            image: (D, H, W) on the target's grid.
            inside: bool, same shape.
            heights: axial positions.
        """
        heights = torch.as_tensor(heights)
        scaled = slice_minmax((image * inside)[None, None])[0]  # (1, D, H, W)
        sources, masks = (volume[..., heights].permute(3, 0, 1, 2) for volume in (scaled, inside[None]))  # (B, 1, D, H)
        return self._loop(sources, masks, heights)

    def _loop(self, sources: Tensor, masks: Tensor, heights: Tensor) -> Result:
        """Algorithm 1 on slices of one volume, (B, 1, D, H) in [0, 1], at their heights."""
        starts = self._starts(heights, masks).to(sources)
        generator = torch.Generator().manual_seed(0)  # of the released variant's noise: one scan, one result
        flow, encoding = self._flow.to(sources.device), Encoding(self.prior.bits)
        size = BATCH.get(sources.device.type, BATCH["cpu"])
        parts = [
            optimise(flow, *chunk, self.loop, encoding=encoding, generator=generator)
            for chunk in zip(*(slices.split(size) for slices in (starts, sources, masks)), strict=True)
        ]
        kinds = ("images", "ncc", "step_factor")
        return Result(*(torch.cat([getattr(part, kind) for part in parts]) for kind in kinds))

    def _starts(self, heights: Tensor, masks: Tensor) -> Tensor:
        """x0 of each slice, (B, 1, D, H), from the brain (B, 1, D, H)."""
        start, _, moments = self._fitted()
        if self.loop.start == "of all heights":
            return start.mean(-1).expand(len(heights), 1, -1, -1)
        starts = start[..., heights.cpu()].permute(2, 0, 1)[:, None]  # (B, 1, D, H)
        if self.loop.start == "at the same height":
            return starts
        mean, deviation = moments[heights.cpu()].T[..., None, None, None]
        inside = [x[m] for x, m in zip(starts, masks.cpu(), strict=True)]
        # a slice with one voxel of brain has no deviation, and n - 1 would make a NaN of it
        averaged = [torch.stack([values.mean(), values.std(correction=min(1, len(values) - 1))]) for values in inside]
        flat_mean, flat_deviation = torch.stack(averaged).T[..., None, None, None]
        stretched = (starts - flat_mean) * deviation / flat_deviation.clamp_min(1e-6) + mean
        return stretched.clamp(0, 1) * masks.cpu()

    @property
    def settings(self) -> FlowSettings:
        """What the weights depend on: the prior's settings; those of the loop may change after."""
        return self.prior

    @settings.setter
    def settings(self, prior: FlowSettings) -> None:
        self.prior = prior

    @property
    def tops(self) -> Tensor:
        """(W,): what 1 of a harmonized slice becomes in the target's units; 0 where no target person has brain."""
        return self._fitted()[1]

    @property
    def flow(self) -> Any:
        """The prior, in eval mode."""
        self._fitted()
        return self._flow

    def state(self) -> dict[str, Tensor]:
        """`flow.NAME` of the flow, `start` packed, `tops`, `moments`, and `prior`: what it takes to build the flow."""
        _, tops, moments = self._fitted()
        prior = self.prior
        numbers = [prior.levels, prior.steps, prior.hidden, prior.bits, MIXINGS.index(prior.mixing)]
        packed = {f"start.{name}": value.clone() for name, value in self._packed.items()}
        flow = {f"flow.{name}": value for name, value in without_counters(self._flow).items()}
        return {**flow, **packed, "tops": tops, "moments": moments, "prior": torch.tensor(numbers)}

    def load_state(self, state: dict[str, Tensor]) -> Self:
        """Take over what an earlier fit learned.

        Raises:
            ValueError: other names, or a flow of another form than the state says.
        """
        flow = {name.removeprefix("flow."): value for name, value in state.items() if name.startswith("flow.")}
        packed = {name.removeprefix("start."): value for name, value in state.items() if name.startswith("start.")}
        rest = {name: value for name, value in state.items() if not name.startswith(("flow.", "start."))}
        check_names(self.name, rest, {"tops", "moments", "prior"})
        check_packed(self.name, packed)
        heights = int(packed["grid"][2])
        if rest["tops"].shape != (heights,) or rest["moments"].shape != (heights, 2) or rest["prior"].shape != (5,):
            raise ValueError(f"{self.name}: found tops, moments or prior of another shape than {heights} heights want")
        levels, steps, hidden, bits, mixing = state["prior"].tolist()
        self.prior = replace(self.prior, levels=levels, steps=steps, hidden=hidden, bits=bits, mixing=MIXINGS[mixing])
        self._packed, self._start = packed, unpacked_image(packed)
        self._tops, self._moments = state["tops"], state["moments"]
        self._flow = new_flow(self.prior, self._start.shape[:2])
        tensors = self._flow.state_dict()
        counters = {name: tensors[name] for name in tensors.keys() - without_counters(self._flow).keys()}
        try:
            self._flow.load_state_dict(counters | flow)
        except RuntimeError as error:
            raise ValueError(f"{self.name}: found a flow of another form, wanted {self.prior}: {error}") from error
        self._flow.eval()
        return self

    @property
    def is_fitted(self) -> bool:
        """Whether there is a prior."""
        return self._flow is not None

    def _fitted(self) -> tuple[Tensor, Tensor, Tensor]:
        self.check_fitted()
        return self._start, self._tops, self._moments


def _mean_moments(images: Tensor, mask: Tensor) -> Tensor:
    """(W, 2): mean and deviation inside the brain of slices (N, 1, D, H, W), mean over the people; 0 without brain."""
    count = mask.sum((1, 2, 3))  # (N, W)
    mean = (images * mask).sum((1, 2, 3)) / count.clamp_min(1)
    spread = ((images - mean[:, None, None, None]).square() * mask).sum((1, 2, 3)) / count.clamp_min(1)
    return torch.stack([mean, spread.sqrt()], -1).sum(0) / (count > 0).sum(0).clamp_min(1)[:, None]
