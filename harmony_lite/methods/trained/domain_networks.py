"""What comparators share that see the source domain while they are trained: a network for each named source domain.

They serve that domain alone. U-Net and CycleGAN are BlindHarmony's (Jeong et al., ICCV 2023, sections 4.3 and 4.4) and
take axial slices; BlindHarmonyDiff's DeepHarmony (Jeong et al., 2025, supplement S3.2) takes volumes.

In reading order: `Pieces` and `Lesson`, what is trained on and how; `DomainNetworks`, whatever a network takes;
`SliceNetworks`, those that take axial slices, each scaled by itself; `VolumeNetworks`, those for whole scaled scans.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from harmony_lite.cohort import Paired, Scans, Unpaired
from harmony_lite.images.checks import check_volumes
from harmony_lite.images.normalize import percentiles, slice_minmax, subject_percentile
from harmony_lite.images.slices import brain_slices, mean_tops, through_slices
from harmony_lite.methods.averaged_image import check_grid
from harmony_lite.methods.protocol import Harmonizer, check_tensors
from harmony_lite.methods.shipping import Shipping
from harmony_lite.nets.draws import held_out
from harmony_lite.training import CURVE_POINTS, History, checkpoint_of, train
from harmony_lite.weights import without_counters

__all__ = ["DomainNetworks", "Lesson", "Pieces", "SliceNetworks", "VolumeNetworks"]


class Pieces(NamedTuple):
    """What networks take, such as axial slices (B, 1, D, H): of the people to train on, and of those held out.

    The latter are None where nobody is held out.
    """

    training: Tensor
    held_out: Tensor | None


@dataclass(frozen=True)
class Lesson:
    """What one source domain's training needs.

    Attributes:
        model: all that is trained.
        network: the part of it that maps source images to target images.
        optimizer: over the model's parameters.
        data: what batches are drawn from.
        draw_batch: (data, generator) -> batch.
        batch_loss: (model, batch, generator) -> scalar.
        validate: model -> smaller is better, on people who are held out.
        unit: of the validation.
        scheduler: of the learning rate.
    """

    model: nn.Module
    network: nn.Module
    optimizer: Optimizer
    data: tuple[Tensor, ...]
    draw_batch: Callable[[Any, torch.Generator], Any]
    batch_loss: Callable[[nn.Module, Any, torch.Generator], Tensor]
    validate: Callable[[nn.Module], float]
    unit: str
    scheduler: LRScheduler | None = None


class DomainNetworks(Harmonizer):
    """One network per source domain; `harmonize(images, scanner=NAME)` takes the one of that name.

    Class attributes:
        numbers: names of what else is learned from the target's scans, each one axis long.
    """

    on_template_grid: ClassVar[bool] = True
    is_trained: ClassVar[bool] = True
    numbers: ClassVar[tuple[str, ...]]

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.histories: dict[str, History] = {}  # by source domain
        self._networks: dict[str, nn.Module] = {}
        self._numbers: dict[str, Tensor] = {}

    # ----------------------------------------------------------------------------------------- what a method fills in

    @abstractmethod
    def _new_network(self) -> nn.Module:
        """The network that maps source images to target images, in [0, 1], untrained."""

    @abstractmethod
    def _pieces(self, scans: Scans) -> Tensor:
        """What a network takes of some people's scans."""

    @abstractmethod
    def _numbers_of(self, target: Scans) -> dict[str, Tensor]:
        """What the method has to know of the target's scans, by the names in `numbers`: their units above all."""

    @abstractmethod
    def _lesson(self, target: Pieces, source: Pieces, generator: torch.Generator) -> Lesson:
        """What is trained, on what, and by what its best weights are chosen, for the target and one source."""

    def _trained(
        self,
        target: Pieces,
        source: Pieces,
        generator: torch.Generator,
        checkpoint: Path | None = None,
        progress: bool = False,
        steps: int | None = None,
    ) -> tuple[nn.Module, History]:
        """A source's network with the best weights of its training; `steps` stops early, on the way of the schedule."""
        lesson = self._lesson(target, source, generator)
        is_validated = target.held_out is not None and source.held_out is not None
        history = train(
            lesson.model.train(),
            lesson.optimizer,
            lesson.batch_loss,
            lesson.draw_batch,
            steps=steps or self.settings.training_steps,
            generator=generator,
            data=lesson.data,
            scheduler=lesson.scheduler,
            validate=lesson.validate if is_validated else None,
            validate_every=max(1, self.settings.training_steps // CURVE_POINTS),
            unit=lesson.unit,
            checkpoint=checkpoint,
            recipe=vars(self.settings),
            progress=progress,
        )
        return lesson.network, history

    # ---------------------------------------------------------------------------------------------------------- fit

    def fit(
        self,
        view: Paired | Unpaired,
        *,
        generator: torch.Generator | None = None,
        checkpoint: str | Path | None = None,
        progress: bool = True,
    ) -> Self:
        """Train one network for each source in the view, one after the other.

        The last people (the share that the settings say) are held out, and choose each network's best weights. Where
        there is one person only, nobody is, and the last weights stay.

        Args:
            view: target and sources; pairs for U-Net, different people for CycleGAN.
            generator: of first weights, batches and noise; seed 0 when None. Every source begins with the same state.
            checkpoint: file from which an interrupted training goes on; each source adds its name to it.
            progress: show a bar for each source.

        Raises:
            ValueError: scans that are not volumes, not finite or without contrast; a grid that CycleGAN cannot halve
                twice.
        """
        seed = 0 if generator is None else generator.initial_seed()
        self._networks, self.histories = {}, {}
        target, self._numbers = self._split(view.target, "target"), self._numbers_of(view.target)
        for name, scans in view.sources.items():
            file = checkpoint_of(checkpoint, name)
            chance = torch.Generator().manual_seed(seed)
            network, self.histories[name] = self._trained(target, self._split(scans, name), chance, file, progress)
            self._networks[name] = network.eval()
        return self

    def fingerprint(self, view: Paired | Unpaired) -> float:
        """Loss, mean over the first three batches and the sources."""
        target, losses = self._split(view.target, "target"), []
        for name, scans in view.sources.items():
            chance = torch.Generator().manual_seed(0)
            losses += self._trained(target, self._split(scans, name), chance, steps=3)[1].losses
        return sum(losses) / len(losses)

    def _split(self, scans: Scans, what: str) -> Pieces:
        check_volumes(scans.images, scans.mask, what=f"{what} scans")
        people = len(scans.images)
        if people == 1:
            return Pieces(self._pieces(scans), None)
        last = held_out(people, self.settings.validation_share)
        parts = (Scans(scans.images[chosen], scans.mask[chosen]) for chosen in (slice(last.start), last))
        return Pieces(*(self._pieces(part) for part in parts))

    # ------------------------------------------------------------------------------------------- networks and weights

    @property
    def scanners(self) -> tuple[str, ...]:
        """The source domains that networks were trained on."""
        return tuple(self._networks)

    @property
    def is_fitted(self) -> bool:
        """Whether there are networks."""
        return bool(self._networks)

    def state(self) -> dict[str, Tensor]:
        """`SOURCE/NAME` of each source's network, and the `numbers`."""
        self.check_fitted()
        return {**_by_source(self._networks), **self._numbers}

    def load_state(self, state: dict[str, Tensor]) -> Self:
        """Take over what an earlier fit learned; the settings have to be those of that fit.

        Raises:
            ValueError: other tensors than a network of these settings has.
        """
        sources = dict.fromkeys(name.partition("/")[0] for name in state if "/" in name)
        networks = {source: self._new_network() for source in sources}
        check_tensors(self.name, state, _by_source(networks), dict.fromkeys(self.numbers, 1))
        for source, network in networks.items():
            of_source = {name: state[f"{source}/{name}"] for name in without_counters(network)}
            network.load_state_dict(of_source, strict=False)
            network.eval()
        self._networks = networks
        self._numbers = {name: state[name] for name in self.numbers}
        return self


class SliceNetworks(DomainNetworks):
    """Such networks for axial slices: volumes in and out, slice by slice.

    Every slice is scaled by its own minimum and maximum, as in BlindHarmony's paper, and the result takes the units
    that target slices of that height have on average.

    The variants say which source domains the shipped networks were trained on; BlindHarmony's recipe names them: four
    scanners (its Table 2), or three intensity maps of the target's own scans (its Table 1).
    """

    variants: ClassVar[tuple[str, ...]] = ("scanners", "maps")
    shipping: ClassVar[Shipping | None] = Shipping()
    is_slicewise: ClassVar[bool] = True
    numbers: ClassVar[tuple[str, ...]] = ("tops",)

    def _pieces(self, scans: Scans) -> Tensor:
        return brain_slices(slice_minmax(scans.images * scans.mask), scans.mask)

    def _numbers_of(self, target: Scans) -> dict[str, Tensor]:
        return {"tops": mean_tops(target.images * target.mask)}

    @property
    def tops(self) -> Tensor:
        """(W,): what 1 of a harmonized slice becomes in the target's units; 0 where no target person has brain."""
        self.check_fitted()
        return self._numbers["tops"]

    def _harmonize(self, images: Tensor, mask: Tensor, scanner: str | None) -> Tensor:
        tops = self.tops
        if images.shape[-1] == 1:  # a slice, at no height
            tops = tops[tops > 0].mean(0, keepdim=True)
        if images.shape[-1] != len(tops):
            raise ValueError(f"images: found {images.shape[-1]} heights, wanted {len(tops)}, as in the target's scans")
        network = self._networks[scanner].to(images.device)
        scaled = slice_minmax(images * mask)
        return through_slices(scaled, mask, lambda slices, *_: network(slices).clamp(0, 1), tops=tops)


class VolumeNetworks(DomainNetworks):
    """Such networks for scans that are scaled as a whole, by their own 1st and 99th percentiles, as BlindHarmonyDiff's.

    The result takes the units that these have on average in the target's scans; outside the mask it is 0.
    """

    variants: ClassVar[tuple[str, ...]] = ("scanners",)
    shipping: ClassVar[Shipping | None] = Shipping()
    takes_slices: ClassVar[bool] = False
    numbers: ClassVar[tuple[str, ...]] = ("ends", "grid")  # what 0 and 1 become in the target's units; (D, H, W)

    @abstractmethod
    def _mapped(self, network: nn.Module, scaled: Tensor, mask: Tensor) -> Tensor:
        """What a network makes of scaled volumes (N, 1, D, H, W)."""

    def _scaled(self, scans: Scans) -> Tensor:
        return subject_percentile(scans.images, scans.mask) * scans.mask

    def _numbers_of(self, target: Scans) -> dict[str, Tensor]:
        ends = torch.stack([end.mean() for end in percentiles(target.images, target.mask)])
        return {"ends": ends, "grid": torch.tensor(target.images.shape[2:])}

    def _harmonize(self, images: Tensor, mask: Tensor, scanner: str | None) -> Tensor:
        check_grid(images, self._numbers["grid"].tolist())
        low, high = self._numbers["ends"].tolist()
        found = self._mapped(self._networks[scanner].to(images.device), self._scaled(Scans(images, mask)), mask)
        return (low + found * (high - low)) * mask


def _by_source(networks: dict[str, nn.Module]) -> dict[str, Tensor]:
    return {f"{source}/{name}": v for source, net in networks.items() for name, v in without_counters(net).items()}
