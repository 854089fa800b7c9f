"""MISPEL as a method: what is done to scans before and after, fit, harmonize. No scanner is the target.

Source: M. Eshaghzadeh Torbati, D. L. Tudorascu, D. S. Minhas, P. Maillard, C. S. DeCarli, S. J. Hwang, "Multi-scanner
Harmonization of Paired Neuroimaging Data via Structure Preserving Embedding Learning", ICCV Workshops 2021.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from harmony_lite.cohort import Needs, SeveralScanners
from harmony_lite.images.bias_field import without_field
from harmony_lite.images.checks import check_volumes
from harmony_lite.images.normalize import means
from harmony_lite.images.slices import axial_slices, through_slices
from harmony_lite.methods.averaged_image import check_grid
from harmony_lite.methods.own_grid import model_grid
from harmony_lite.methods.protocol import Harmonizer, check_tensors
from harmony_lite.methods.shipping import Shipping
from harmony_lite.papers.mispel.decoder_optimum import drawn_pixels, solved_weights
from harmony_lite.papers.mispel.networks import Units
from harmony_lite.papers.mispel.settings import SIZES, VARIANTS, MispelSettings
from harmony_lite.papers.mispel.steps import PairedSlices, fit_decoders, learn_embeddings
from harmony_lite.profiles import sized
from harmony_lite.training import History, checkpoint_of

__all__ = ["Mispel"]


class Mispel(Harmonizer):
    """An encoder and a decoder for each named scanner; `harmonize(images, scanner=NAME)` takes those of that name.

    Source: see the module. Volumes in and out, one axial slice after another: N4, the mask, division by the mean
    (section 4.1), then Dec_i(Enc_i(X)). A decoder can go a little below 0.

    The variants: `paper` as printed; `released` with ReLU after the decoder, and a step 2 that only reconstructs, as
    the public code's does; `ours` with coupling that does not depend on the embeddings' scale, losses over the brain,
    and a step 2 that is solved.
    """

    name: ClassVar[str] = "mispel"
    needs: ClassVar[Needs] = Needs.SEVERAL_SCANNERS
    variants: ClassVar[tuple[str, ...]] = tuple(VARIANTS)
    shipping: ClassVar[Shipping | None] = Shipping(target="mispel_ge")
    on_template_grid: ClassVar[bool] = True  # once trained elsewhere, scans have to lie on the grid of their training
    is_trained: ClassVar[bool] = True

    def __init__(self, settings: MispelSettings | None = None) -> None:
        self.settings = settings or MispelSettings()
        self.histories: dict[str, History] = {}  # "step 1", "step 2"
        self.units: Units | None = None
        self._scanners: tuple[str, ...] = ()
        self._unit = 1.0  # what 1 becomes: the mean by which scans of the first scanner were divided
        self._grid: tuple[int, ...] = ()  # (D, H, W) of the training scans

    @classmethod
    def from_variant(cls, variant: str) -> Self:
        """One of `VARIANTS`, as large and as long as the active profile says."""
        return cls(replace(sized(SIZES), **VARIANTS[variant]))

    @property
    def scanners(self) -> tuple[str, ...]:
        """Those of the fit, in the order of the encoders."""
        return self._scanners

    @property
    def is_fitted(self) -> bool:
        """Whether there are encoders."""
        return self.units is not None

    def on_corrected(self) -> Self:
        """The same method for scans that have been through N4 already."""
        other = type(self)(replace(self.settings, bias_correction=False))
        return other.load_state(self.state()) if self.units is not None else other

    def take_settings(self, stored: Mapping[str, Any]) -> Self:
        """Take over the settings of a card; whether N4 runs here stays as it is, as scans may have been through N4."""
        runs_n4 = self.settings.bias_correction
        super().take_settings(stored)
        self.settings = replace(self.settings, bias_correction=runs_n4)
        return self

    # --------------------------------------------------------------------------------------------------------- images

    def divided(self, images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Section 4.1: N4, the mask, division by the mean.

        Args:
            images: (N, 1, D, H, W), scanner units.
            mask: bool, same shape: the brain.

        Returns:
            What the encoders take, same shape, and the divisors (N,): the mean of all voxels, zeros around the brain
            included, or that of the brain (`brain_only`).
        """
        images = images.detach().float()
        if self.settings.bias_correction:
            images = without_field(images.clamp_min(0), mask)
        images = images * mask
        divisors = means(images, mask if self.settings.brain_only else None)
        if bool((divisors <= 0).any()):
            raise ValueError(f"images: found a mean of {float(divisors.min()):g}, wanted a positive one to divide by")
        return images / divisors[:, None, None, None, None], divisors

    def slices_of(self, view: SeveralScanners) -> PairedSlices:
        """Evenly spaced axial slices of each person on every scanner, as `fit` takes them.

        The scanners come in the order of this method's encoders, or in the view's where it has none yet.

        Raises:
            ValueError: fewer than two scanners, unequal numbers of people, scans on different grids.
        """
        return self._prepared(view)[0]

    def _prepared(self, view: SeveralScanners) -> tuple[PairedSlices, float]:
        """The slices, and the mean divisor of the first scanner."""
        _check_pairs(view)
        brain = torch.stack([scans.mask for scans in view.scanners.values()]).all(0)  # on every scanner
        positions, images, unit = None, [], None
        names = tuple(view.scanners)
        if self.units is not None:
            if set(names) != set(self.scanners):
                found = f"scanners: found {', '.join(names)}"
                raise ValueError(f"{found}, wanted those of the encoders: {', '.join(self.scanners)}")
            names = self.scanners
        for scans in (view.scanners[name] for name in names):
            divided, divisors = self.divided(scans.images, scans.mask)
            taken, positions = axial_slices(divided, self.settings.slices, mask=brain, positions=positions)
            images.append(taken)
            unit = float(divisors.mean()) if unit is None else unit
        inside = axial_slices(brain, self.settings.slices, positions=positions)[0]
        return PairedSlices(torch.cat(images, 1), inside, names), unit

    # ------------------------------------------------------------------------------------------------------------ fit

    def fit(
        self,
        view: SeveralScanners,
        *,
        generator: torch.Generator | None = None,
        checkpoint: str | Path | None = None,
        progress: bool = True,
    ) -> Self:
        """Both steps of Algorithm 1.

        Args:
            view: the same people, registered to each other, on two scanners or more; the first gives the units.
            generator: of first weights and batches; seed 0 when None.
            checkpoint: file from which an interrupted training goes on; each step adds its name to it.
            progress: show a bar for each step.

        Raises:
            ValueError: one scanner only, unequal numbers of people, scans on different grids, not finite, without
                contrast, or with fewer heights than slices are wanted.
        """
        generator, self.units = generator or torch.Generator().manual_seed(0), None
        slices, self._unit = self._prepared(view)
        self._scanners = slices.scanners
        self._take_grid(next(iter(view.scanners.values())).images.shape[2:])
        files = [checkpoint_of(checkpoint, f"step{step}") for step in (1, 2)]
        self.units, first = learn_embeddings(
            slices, self.settings, generator=generator, checkpoint=files[0], progress=progress
        )
        self.histories = {"step 1": first}
        if self.settings.solved:
            self.solve_step_two(slices)
        else:
            self.histories["step 2"] = fit_decoders(
                self.units, slices, self.settings, generator=generator, checkpoint=files[1], progress=progress
            )
        self.units.eval().cpu()
        return self

    def solve_step_two(self, slices: PairedSlices, *, absolute: bool = True, most: int = 100_000) -> Self:
        """Give the decoders the optimum of Equation 6 on brain pixels.

        Args:
            slices: of training people.
            absolute: False for the least-squares optimum.
            most: pixels to be drawn, seed 0.
        """
        pixels = drawn_pixels(self.units, slices, torch.Generator().manual_seed(0), most)
        with torch.no_grad():
            self.units.weights.copy_(solved_weights(*pixels, self.settings, absolute=absolute))
        return self

    def fingerprint(self, view: SeveralScanners) -> float:
        """Loss of step 1, mean over the first three batches."""
        slices = self.slices_of(view)
        generator = torch.Generator().manual_seed(0)
        _, history = learn_embeddings(slices, self.settings, generator=generator, progress=False, steps=3)
        return sum(history.losses) / len(history.losses)

    # ------------------------------------------------------------------------------------------------------ harmonize

    def _harmonize(self, images: Tensor, mask: Tensor, scanner: str | None) -> Tensor:
        check_grid(images, self._grid)
        index = self.scanners.index(scanner)
        units = self.units.to(images.device)

        def harmonized(slices: Tensor, *_: Tensor) -> Tensor:
            embeddings = units.encoders[index](slices)[:, None]  # (B, 1, L, D, H)
            return units.decode(embeddings, slice(index, index + 1))  # (B, 1, D, H)

        divided, _ = self.divided(images, mask)
        return through_slices(divided, mask, harmonized) * self._unit

    def _take_grid(self, grid: Sequence[int]) -> None:
        self._grid = tuple(grid)
        self.on_template_grid = self._grid == model_grid()[0]

    # ---------------------------------------------------------------------------------------------------------- state

    def state(self) -> dict[str, Tensor]:
        """`SCANNER/NAME` of each encoder, `SCANNER/weights` (L,) of each decoder, `unit` (1,), `grid` (3,)."""
        self.check_fitted()
        return {
            **_by_scanner(self.units, self.scanners),
            "unit": torch.tensor([self._unit]),
            "grid": torch.tensor(self._grid),
        }

    def load_state(self, state: dict[str, Tensor]) -> Self:
        """Take over what an earlier fit learned; the settings have to be those of that fit.

        Raises:
            ValueError: other tensors than encoders and decoders of these settings have.
        """
        scanners = tuple(sorted({name.partition("/")[0] for name in state if "/" in name}))  # a file keeps no order
        units = Units(len(scanners), self.settings)
        expected = _by_scanner(units, scanners)
        check_tensors(self.name, state, expected, {"unit": 1, "grid": 1})
        with torch.no_grad():
            for name, tensor in expected.items():
                tensor.copy_(state[name])
        self.units, self._scanners = units.eval(), scanners
        self._unit = float(state["unit"])
        self._take_grid(state["grid"].tolist())
        return self


def _by_scanner(units: Units, scanners: Sequence[str]) -> dict[str, Tensor]:
    """The tensors of `units` themselves, by scanner."""
    named = {}
    for scanner, encoder, weights in zip(scanners, units.encoders, units.weights, strict=True):
        named |= {f"{scanner}/{name}": value for name, value in encoder.state_dict().items()}
        named[f"{scanner}/weights"] = weights.detach()
    return named


def _check_pairs(view: SeveralScanners) -> None:
    """Refuse what is not the same people on several scanners, on one grid (ValueError)."""
    if len(view.scanners) < 2:
        raise ValueError(f"scanners: found {', '.join(view.scanners) or 'none'}, wanted at least two")
    for name, scans in view.scanners.items():
        check_volumes(scans.images, scans.mask, what=f"scans of {name}")
    first, *others = view.scanners
    shape = view.scanners[first].images.shape
    for name in others:
        found = view.scanners[name].images.shape
        if found[0] != shape[0]:
            raise ValueError(
                f"pairs: found {found[0]} people on {name} and {shape[0]} on {first}, wanted the same people on both"
            )
        if found != shape:
            raise ValueError(
                f"pairs: found a grid of {tuple(found[2:])} voxels on {name} and {tuple(shape[2:])} on {first}, "
                "wanted scans registered to each other on one grid"
            )
