"""Style transfer as a method: one training on all sites, then one reference scan says the style.

Source: Liu et al., MICCAI 2021 (see the package's first lines). In the profile `quick` the networks are small and
trained for minutes; nothing follows from them for a training of the paper's length.
"""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor

from harmony_lite.cohort import Needs, Scans, Unpaired
from harmony_lite.images.checks import check_volumes
from harmony_lite.images.normalize import pad_to_multiple, percentiles
from harmony_lite.methods.averaged_image import check_grid
from harmony_lite.methods.protocol import Harmonizer, check_tensors
from harmony_lite.methods.shipping import Shipping
from harmony_lite.methods.trained.style_transfer.networks import SIZES, Artist, StyleTransferSettings
from harmony_lite.methods.trained.style_transfer.players import learn_to_copy, play
from harmony_lite.methods.trained.style_transfer.slices import brain_stacks, scaled_stacks, unstacked
from harmony_lite.nets.draws import first_weights, held_out, in_chunks
from harmony_lite.profiles import sized
from harmony_lite.training import History, checkpoint_of

__all__ = ["StyleTransfer"]


class StyleTransfer(Harmonizer):
    """A generator that draws a scan's slices in the style of one reference scan; all sites are one domain.

    Scans are scaled to [0, 1] each by its own 1st and 99th percentiles; the result takes the reference's units, and is
    0 outside the mask. A reference's style is the mean over its slices. Without a reference, the target is the first
    site of the fit, by one training person's scan.
    """

    name: ClassVar[str] = "style-transfer"
    needs: ClassVar[Needs] = Needs.UNPAIRED
    variants: ClassVar[tuple[str, ...]] = ("sites",)
    # one domain: the second file serves all of Harmonizing Flows' sites, whichever is the target
    shipping: ClassVar[Shipping | None] = Shipping(target="hail_a", also=(("sites", "abide_caltech"),))
    takes_reference: ClassVar[bool] = True
    on_template_grid: ClassVar[bool] = True
    is_trained: ClassVar[bool] = True

    def __init__(self, settings: StyleTransferSettings | None = None) -> None:
        self.settings = settings or StyleTransferSettings()
        self.histories: dict[str, History] = {}  # "copying", "players"
        self._artist: Artist | None = None
        self._style = torch.zeros(0)  # of the reference, (S,)
        self._ends = (0.0, 1.0)  # what 0 and 1 become, in its units
        self._grid: tuple[int, ...] = ()  # (D, H, W) of the fit

    @classmethod
    def from_variant(cls, variant: str) -> Self:
        """`sites`: trained on several sites together."""
        return cls(sized(SIZES))

    # ------------------------------------------------------------------------------------------------------------ fit

    def fit(
        self,
        view: Unpaired,
        *,
        generator: torch.Generator | None = None,
        checkpoint: str | Path | None = None,
        progress: bool = True,
    ) -> Self:
        """Train on slices of all sites together. The last people of each are held out, and choose the best weights.

        Where a site has one person only, nobody is held out, and the last weights stay.

        Args:
            view: sites with different people; the first one is the usual target.
            generator: of first weights, batches and latent numbers; seed 0 when None.
            checkpoint: file from which an interrupted training goes on; each part adds its name to it.
            progress: show a bar for each part.

        Raises:
            ValueError: scans that are not volumes, not finite, without contrast, or on different grids.
        """
        generator = generator or torch.Generator().manual_seed(0)
        self._artist, self.histories = self._trained(view, generator, checkpoint, progress)
        self._grid = tuple(view.target.images.shape[2:])
        self._take_reference(Scans(view.target.images[:1], view.target.mask[:1]))
        return self

    def fingerprint(self, view: Unpaired) -> float:
        """Losses of both parts, mean over the first three batches of each."""
        _, histories = self._trained(view, torch.Generator().manual_seed(0), None, False, steps=3)
        losses = History.joined(histories.values()).losses
        return sum(losses) / len(losses)

    def _trained(
        self,
        view: Unpaired,
        generator: torch.Generator,
        checkpoint: str | Path | None,
        progress: bool,
        *,
        steps: int | None = None,
    ) -> tuple[Artist, dict[str, History]]:
        settings, histories = self.settings, {}
        training, validation = self._pieces(view)
        artist = first_weights(lambda: Artist(settings), generator)
        if settings.copying_steps:
            file = checkpoint_of(checkpoint, "copying")
            histories["copying"] = learn_to_copy(artist, training, settings, generator, file, progress, steps=steps)
        file = checkpoint_of(checkpoint, "players")
        artist, histories["players"] = play(
            artist, training, validation, settings, generator, file, progress, steps=steps
        )
        return artist.eval().cpu(), histories

    def _pieces(self, view: Unpaired) -> tuple[Tensor, list[Tensor]]:
        """Stacks of slices to train on, and of each site's people held out: of nobody where a site has one person."""
        training, validation = [], []
        for name, scans in {"the target": view.target, **view.sources}.items():
            check_volumes(scans.images, scans.mask, what=f"scans of {name}")
            people = len(scans.images)
            last = held_out(people, self.settings.validation_share) if people > 1 else slice(people, people)
            training.append(self._stacks(scans, slice(last.start)))
            if people > 1:
                validation.append(self._stacks(scans, last))
        if len({part.shape[1:] for part in training}) > 1:
            raise ValueError("scans: found sites on different grids, wanted one grid")
        return torch.cat(training), validation if len(validation) == len(training) else []

    def _stacks(self, scans: Scans, people: slice = slice(None)) -> Tensor:
        """Slices of some people, as the generator takes them: (B, 3, D, H)."""
        return brain_stacks(scans.images[people], scans.mask[people], 2**self.settings.halvings)

    # ------------------------------------------------------------------------------------------------------ harmonize

    def _fitted_to(self, reference: Scans) -> Self:
        self.check_fitted()
        is_volume = reference.images.ndim == 5
        other = copy(self)
        other._take_reference(reference if is_volume else Scans(reference.images[..., None], reference.mask[..., None]))
        return other

    def _take_reference(self, reference: Scans) -> None:
        stacks = self._stacks(reference)
        self._style = self._artist.to(stacks.device).style_of(stacks)
        self._ends = tuple(float(end) for end in percentiles(reference.images.float(), reference.mask))

    def _harmonize(self, images: Tensor, mask: Tensor, scanner: str | None) -> Tensor:
        check_grid(images, self._grid)
        (low, high), generator = self._ends, self._artist.generator.to(images.device)
        style = self._style.to(images.device)

        def in_style(stacks: Tensor) -> Tensor:
            return generator(stacks, style.expand(len(stacks), -1))

        drawn = []
        for stacks in scaled_stacks(images, mask):  # of one volume: (W, 3, D, H)
            padded, crop = pad_to_multiple(stacks, 2**self.settings.halvings)
            drawn.append(unstacked(crop(in_chunks(in_style, padded, images.device))))
        return (low + torch.cat(drawn).to(images.device) * (high - low)) * mask

    # ---------------------------------------------------------------------------------------------------------- state

    @property
    def is_fitted(self) -> bool:
        """Whether there are networks."""
        return self._artist is not None

    def state(self) -> dict[str, Tensor]:
        """`artist/NAME` of the networks; `style` (S,) and `ends` (2,) of the usual reference; `grid` (3,)."""
        self.check_fitted()
        others = {"style": self._style.clone(), "ends": torch.tensor(self._ends), "grid": torch.tensor(self._grid)}
        return {**_named(self._artist), **others}

    def load_state(self, state: dict[str, Tensor]) -> Self:
        """Take over what an earlier fit learned; the settings have to be those of that fit.

        Raises:
            ValueError: other tensors than networks of these settings have.
        """
        artist = Artist(self.settings)
        check_tensors(self.name, state, _named(artist), {"style": 1, "ends": 1, "grid": 1})
        artist.load_state_dict({name: state[f"artist/{name}"] for name in artist.state_dict()})
        self._artist, self._style = artist.eval(), state["style"]
        self._ends, self._grid = tuple(state["ends"].tolist()), tuple(state["grid"].tolist())
        return self


def _named(artist: Artist) -> dict[str, Tensor]:
    return {f"artist/{name}": value for name, value in artist.state_dict().items()}
