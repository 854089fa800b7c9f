"""What U-Net and CycleGAN share: a network for each named source domain, on axial slices in [0, 1].

Both are BlindHarmony's comparators (Jeong et al., ICCV 2023, sections 4.3 and 4.4): unlike it they see the source
domain while they are trained, and serve that domain alone.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from harmony_lite.cohort import Paired, Unpaired
from harmony_lite.images.normalize import brain_slices, foreground, slice_minmax
from harmony_lite.methods.base import Harmonizer, check_names
from harmony_lite.methods.template_grid import check_volumes
from harmony_lite.training import History
from harmony_lite.weights import without_counters

__all__ = ["DomainNetworks", "slices_of"]


class DomainNetworks(Harmonizer):
    """One network per source domain; `harmonize(images, scanner=NAME)` takes the one of that name.

    Volumes in and out, slice by slice: every axial slice is scaled by its own minimum and maximum, as in the paper, and
    the result takes the units that target slices of that height have on average.

    The variants say which source domains the shipped networks were trained on: four scanners (Table 2), or three
    intensity maps of the target's own scans (Table 1).
    """

    variants: ClassVar[tuple[str, ...]] = ("scanners", "maps")
    is_slicewise: ClassVar[bool] = True
    on_template_grid: ClassVar[bool] = True
    is_trained: ClassVar[bool] = True

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.histories: dict[str, History] = {}  # by source domain
        self._networks: dict[str, nn.Module] = {}
        self._tops: Tensor | None = None  # (W,): mean maximum of the target's slices, target units; 0 without brain

    # ----------------------------------------------------------------------------------------- what a method fills in

    @abstractmethod
    def _new_network(self) -> nn.Module:
        """The network that maps source slices to target slices, in [0, 1], untrained."""

    @abstractmethod
    def _trained(
        self,
        target: Tensor,
        source: Tensor,
        generator: torch.Generator,
        checkpoint: Path | None,
        progress: bool,
        steps: int | None = None,
    ) -> tuple[nn.Module, History]:
        """A network after training on slices (B, 1, H, W) in [0, 1]; `steps` stops early on the way of the schedule."""

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
        target, self._tops = self._target(view)
        for name, scans in view.sources.items():
            file = None if checkpoint is None else Path(checkpoint).with_suffix(f".{name}{Path(checkpoint).suffix}")
            chance = torch.Generator().manual_seed(seed)
            network, self.histories[name] = self._trained(target, slices_of(scans, name), chance, file, progress)
            self._networks[name] = network.eval()
        return self

    def first_steps(self, view: Paired | Unpaired) -> float:
        """Loss, mean over the first three batches and the sources."""
        target, _ = self._target(view)
        losses = []
        for name, scans in view.sources.items():
            chance = torch.Generator().manual_seed(0)
            losses += self._trained(target, slices_of(scans, name), chance, None, False, steps=3)[1].losses
        return sum(losses) / len(losses)

    def _target(self, view: Paired | Unpaired) -> tuple[Tensor, Tensor]:
        tops = (view.target.images * view.target.mask).amax((1, 2, 3))  # (N, W)
        return slices_of(view.target, "target"), tops.sum(0) / (tops > 0).sum(0).clamp_min(1)

    @property
    def history(self) -> History:
        """All trainings in a row."""
        every = self.histories.values()
        losses = [loss for history in every for loss in history.losses]
        return History(losses, seconds=sum(history.seconds for history in every))

    @property
    def tops(self) -> Tensor:
        """(W,): what 1 of a harmonized slice becomes in the target's units; 0 where no target person has brain."""
        if self._tops is None:
            raise ValueError(f"{self.name}: found no network, wanted `fit` or loaded weights")
        return self._tops

    # ----------------------------------------------------------------------------------------------------- harmonize

    @torch.no_grad()
    def harmonize(
        self,
        images: Tensor,
        *,
        reference: Tensor | None = None,
        scanner: str | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Bring volumes of a known source domain to the target, axial slice by axial slice.

        Args:
            images: `(N, 1, D, H, W)`; any units.
            reference: not used.
            scanner: the source domain whose network to take; may be left out where there is one only.
            mask: bool, same shape: the brain; the foreground where absent.

        Returns:
            Same shape, float32, in the target's units, 0 outside the mask and at heights where no target person has
            brain.

        Raises:
            ValueError: images that are not volumes, not finite or without contrast; an unknown source domain, or none
                named where there are several; no weights; another number of heights than the target's.
        """
        check_volumes(images, mask)
        network, tops = self._of(scanner), self.tops.to(images.device)
        if images.shape[-1] != len(tops):
            raise ValueError(f"images: found {images.shape[-1]} heights, wanted {len(tops)}, as in the target's scans")
        mask = foreground(images.float()) if mask is None else mask
        result = torch.zeros_like(images, dtype=torch.float32)
        scaled = slice_minmax(images.detach().float() * mask)
        for index, inside in enumerate(mask):
            heights = (inside[0].flatten(0, 1).any(0) & (tops > 0)).nonzero().squeeze(1)
            slices = scaled[index, ..., heights].permute(3, 0, 1, 2)  # (B, 1, D, H)
            found = torch.cat([network.to(images.device)(part) for part in slices.split(32)])
            found = found.clamp(0, 1)[:, 0] * tops[heights, None, None]
            result[index, 0][..., heights] = found.permute(1, 2, 0)
        return result * mask

    def check_scanner(self, scanner: str | None) -> None:
        """Refuse a source domain that no network was trained on (ValueError)."""
        self._of(scanner)

    def _of(self, scanner: str | None) -> nn.Module:
        if not self._networks:
            raise ValueError(f"{self.name}: found no network, wanted `fit` or loaded weights")
        if scanner is None and len(self._networks) == 1:
            return next(iter(self._networks.values()))
        for name in (scanner, f"oasis_{scanner}"):
            if name in self._networks:
                return self._networks[name]
        known = ", ".join(self._networks)
        raise ValueError(f"scanner: found {scanner!r}, wanted one that {self.name} was trained on: {known}")

    # --------------------------------------------------------------------------------------------------------- state

    def state(self) -> dict[str, Tensor]:
        """`SOURCE/NAME` of each source's network, and `tops`."""
        return {**_by_source(self._networks), "tops": self.tops}

    def load_state(self, state: dict[str, Tensor]) -> Self:
        """Take over what an earlier fit learned; the settings have to be those of that fit.

        Raises:
            ValueError: other tensors than a network of these settings has.
        """
        sources = dict.fromkeys(name.partition("/")[0] for name in state if "/" in name)
        self._networks = {source: self._new_network() for source in sources}
        expected = _by_source(self._networks)
        check_names(self.name, state, {*expected, "tops"})
        for name, wanted in expected.items():
            if state[name].shape != wanted.shape:
                found = f"{name} of shape {tuple(state[name].shape)}"
                raise ValueError(f"{self.name}: found {found}, wanted {tuple(wanted.shape)}, as the settings say")
        for source, network in self._networks.items():
            own = {name: state[f"{source}/{name}"] for name in without_counters(network)}
            network.load_state_dict(own, strict=False)
            network.eval()
        self._tops = state["tops"]
        return self


def _by_source(networks: dict[str, nn.Module]) -> dict[str, Tensor]:
    return {f"{source}/{name}": v for source, net in networks.items() for name, v in without_counters(net).items()}


def slices_of(scans: Any, what: str) -> Tensor:
    """Every axial slice with brain of a view's scans, (B, 1, D, H) in [0, 1], person by person and upwards."""
    check_volumes(scans.images, scans.mask, f"{what} scans")
    return brain_slices(slice_minmax(scans.images * scans.mask), scans.mask)
