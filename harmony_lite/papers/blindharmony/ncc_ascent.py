"""NCC ascent: from the averaged target image, climb the correlation with the source.

This is BlindHarmony's loop with its flow left out, which any claim for that flow has to be held against. It takes
volumes on the grid of the target's people, in the same place (a template's grid); another grid is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from harmony_lite.cohort import Needs, OneReference, TargetOnly
from harmony_lite.images.checks import check_volumes
from harmony_lite.methods.averaged_image import (
    check_grid,
    check_packed,
    mean_image,
    packed_image,
    unpacked_image,
    without_height,
)
from harmony_lite.methods.correlation import correlation, correlation_gradient
from harmony_lite.methods.protocol import Harmonizer
from harmony_lite.methods.shipping import Shipping

__all__ = ["NccAscent", "NccAscentSettings", "ascend"]

MOST_BYTES = 900_000  # of a stored mean image, under the limit of a shipped file


@dataclass(frozen=True)
class NccAscentSettings:
    """Steps of the ascent.

    Attributes:
        step: c, the step in units of N * var(x), with which it depends neither on the size nor on the range of the
            image. The part of x that does not follow the source shrinks by 1 - c NCC in each step. BlindHarmony's own
            step, 1000 on slices of 144 x 176 in [0, 1], is a c of roughly 0.2 to 0.6. Ten steps of 1/3 leave a few per
            cent of that part, ten of 0.7 nothing; above 1 the ascent overshoots.
        steps: N of BlindHarmony's Algorithm 1.
        matched: give the averaged image the mean and deviation of a person's before the ascent. Averaging people takes
            contrast away, and the ascent hardly brings it back: it keeps the mean, and each step multiplies the
            variance by 1 + c^2 (1 - NCC^2), some per cent in all.
    """

    step: float = 1 / 3
    steps: int = 10
    matched: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.step <= 1:
            raise ValueError(f"step: found {self.step:g}, wanted above 0 and at most 1")
        if self.steps < 1:
            raise ValueError(f"steps: found {self.steps}, wanted at least 1")


def ascend(start: Tensor, source: Tensor, *, step: float = 1 / 3, steps: int = 10) -> tuple[Tensor, Tensor]:
    r"""Climb the correlation with a source; a step is $x \leftarrow x + c\, N \mathrm{var}(x) \nabla_x \mathrm{NCC}$.

    Source: BlindHarmony (Jeong et al., ICCV 2023), Algorithm 1 and equation 13 without the flow and without the edge
    term, with the step of `NccAscentSettings`.

    Args:
        start: any shape, floating point.
        source: same shape.
        step: c, above 0 and at most 1.
        steps: how many.

    Returns:
        The image that is reached, and the correlations before the first step and after each, `(steps + 1,)`.
    """
    image, reached = start, [correlation(start, source)]
    for _ in range(steps):
        total_variance = (image - image.mean()).square().sum()  # N * var(x)
        image = image + step * total_variance * correlation_gradient(image, source)
        reached.append(correlation(image, source))
    return image, torch.stack(reached)


class NccAscent(Harmonizer):
    """Start at the averaged target image and climb the correlation with the source: BlindHarmony without its flow.

    Source: BlindHarmony (Jeong et al., ICCV 2023), Algorithm 1 with alpha = 0, where the flow is applied and undone.
    The correlation is centred and taken inside the mask. Where it is reached, the result is the source's pattern with
    the averaged image's mean and nearly its norm: a gain and an offset, found by going uphill.

    Variants: `mean` starts at the averaged image as it is, as the paper does; `matched` first gives it the mean and
    deviation that the target's people have on average.

    Outside the mask the result is 0: there is no source to follow. The averaged image is kept in steps of 1/255 of its
    range (8 bits) within the box around the target's brains, on every voxel at 2 mm and on blocks of 2 x 2 x 2 where a
    file would otherwise pass the limit of shipped weights; `fit` keeps the same, so that loading changes nothing.
    """

    name: ClassVar[str] = "ncc-ascent"
    needs: ClassVar[Needs] = Needs.TARGET_ONLY
    variants: ClassVar[tuple[str, ...]] = ("mean", "matched")
    shipping: ClassVar[Shipping | None] = Shipping()
    on_template_grid: ClassVar[bool] = True
    reference_is_enough: ClassVar[bool] = True  # an ascent may start anywhere on the target's side

    def __init__(self, settings: NccAscentSettings | None = None) -> None:
        self.settings = settings or NccAscentSettings()
        self._state: dict[str, Tensor] = {}

    @classmethod
    def from_variant(cls, variant: str) -> Self:
        """`mean` or `matched`: where the ascent starts."""
        return cls(NccAscentSettings(matched=variant == "matched"))

    def fit(self, view: TargetOnly | OneReference, *, generator: torch.Generator | None = None) -> Self:
        """Average the target's people, or take one reference; nothing is random.

        Raises:
            ValueError: scans that are not volumes, not finite or have no contrast inside the mask.
        """
        scans = view.reference if isinstance(view, OneReference) else view.target
        check_volumes(scans.images, scans.mask, what="target scans")
        people = [image[inside].double() for image, inside in zip(scans.images, scans.mask, strict=True)]
        moments = torch.tensor([[float(p.mean()), float(p.std(correction=0))] for p in people]).mean(0)
        mean = torch.from_numpy(mean_image(scans.images))
        self._state = {**packed_image(mean, scans.mask.any(0)[0].cpu(), most_bytes=MOST_BYTES), "moments": moments}
        return self

    def start(self) -> Tensor:
        """The averaged target image as it is kept, `(D, H, W)` float32, 0 outside the box around the brains.

        Raises:
            ValueError: nothing was fitted or loaded.
        """
        self.check_fitted()
        return unpacked_image(self._state)

    def _harmonize(self, images: Tensor, mask: Tensor, scanner: str | None) -> Tensor:
        start = self.start().to(images.device)
        check_grid(images, start.shape)
        if images.shape[-1] == 1:
            start = without_height(start)
        result = torch.zeros_like(images)
        for index, (image, inside) in enumerate(zip(images, mask, strict=True)):
            begin = self._start_inside(start[inside[0]].double(), index)
            reached, _ = ascend(begin, image[inside].double(), step=self.settings.step, steps=self.settings.steps)
            result[index][inside] = reached.float()
        return result

    @property
    def is_fitted(self) -> bool:
        """Whether there is an averaged image."""
        return bool(self._state)

    def state(self) -> dict[str, Tensor]:
        """The averaged image and what it takes to unfold it.

        `image` uint8 (d, h, w), `range` (2,) of its intensities in the target's units, `corner` (3,) and `size` (3,) of
        its box in voxels, `block` (1,) the side of the blocks in voxels, `grid` (3,), `moments` (2,): the people's mean
        and deviation.
        """
        return {name: tensor.clone() for name, tensor in self._state.items()}

    def load_state(self, state: dict[str, Tensor]) -> Self:
        """Take over what an earlier fit learned.

        Raises:
            ValueError: other names, an image that is not 8 bits or not of its box, a box outside the grid.
        """
        packed = {name: tensor for name, tensor in state.items() if name != "moments"}
        check_packed(self.name, packed)
        if state.get("moments", torch.empty(0)).shape != (2,):
            raise ValueError(f"{self.name}: found no moments of shape (2,) in {sorted(state)}, wanted them")
        self._state = {name: tensor.clone() for name, tensor in state.items()}
        return self

    def _start_inside(self, start: Tensor, index: int) -> Tensor:
        deviation = start.std(correction=0)
        if not bool(deviation > 0):
            raise ValueError(
                f"mask: found image {index}'s mask where the averaged target has no contrast, wanted the target's place"
            )
        if not self.settings.matched:
            return start
        mean, wanted = self._state["moments"].to(start)
        return (start - start.mean()) / deviation * wanted + mean
