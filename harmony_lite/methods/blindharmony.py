"""BlindHarmony: a flow learns what target slices look like, and a loop brings any source slice there.

Source: H. Jeong, H. Byun, D. U. Kang, J. Lee, "BlindHarmony: 'Blind' Harmonization for MR Images via Flow model", ICCV
2023. Only the target domain is seen. From the averaged target slice x0 the loop climbs the correlation with the source
(Equation 13), and shrinks the flow's latent vector a little after each step (Equation 12). Equations are numbered as in
the paper.

Three readings of it are data, not code: `ours`, `paper` (as printed) and `released` (as the public code behaves).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional

from harmony_lite.cohort import Needs, TargetOnly
from harmony_lite.images.normalize import brain_slices, foreground, slice_minmax
from harmony_lite.methods.base import Harmonizer, check_names, register
from harmony_lite.methods.flow_prior import Encoding, FlowSettings, new_flow, prior_of, train_prior
from harmony_lite.methods.template_grid import check_grid, check_volumes, packed_image, unpacked_image
from harmony_lite.nets.flows import MIXINGS
from harmony_lite.profiles import active
from harmony_lite.training import History
from harmony_lite.weights import without_counters

__all__ = [
    "STARTS", "VARIANTS", "BlindHarmony", "LoopSettings", "Result", "edge_descent", "flat_regions", "ncc_and_gradient",
    "optimise",
]  # fmt: skip

STARTS = ("at the same height", "of all heights", "at full contrast")
START_BYTES = 120_000  # of the averaged slices in a weights file, beside the flow

# ---------------------------------------------------------------------------------------------------------- settings


@dataclass(frozen=True)
class LoopSettings:
    """Algorithm 1 and what the paper leaves open in it.

    Attributes:
        alpha: shrink of the latent vector in each iteration (section 3.3).
        beta1: weight of the correlation; None takes `step` instead.
        step: c, the step in units of N var(x): the part of x that does not follow the source shrinks by 1 - c NCC,
            whatever the image's size and range. The printed beta1 is a c of 0.2 to 0.6 on slices of 144 x 176, and
            another one on every other size.
        beta2: weight of the gradient in the source's flat regions.
        iterations: N.
        centred: correlation as printed (Pearson), or the released code's cosine without means.
        inside: correlation and edges inside the brain, or over the whole slice, background included.
        flat_quantile: pixels whose source gradient lies strictly below this quantile are flat; not printed.
        dequantize: "centre" keeps intensities at the middle of their grey level, both ways; "noise" adds uniform noise
            and rounds down on the way back, as the released code does in every iteration.
        after_shrink: return the image after the last shrink, as the released code does; Algorithm 1 returns x_N.
        start: x0 the averaged slice "at the same height", or "of all heights"; or that of the same height "at full
            contrast": averaging people blurs, so it is stretched to the mean and deviation that one person's slice has.
        use_flow: False leaves the flow out, and with it Equation 12: the ascent that the flow is held against.
    """

    alpha: float = 0.001
    beta1: float | None = 1000.0
    step: float = 1 / 3
    beta2: float = 0.001
    iterations: int = 10
    centred: bool = True
    inside: bool = False
    flat_quantile: float = 0.3
    dequantize: str = "centre"
    after_shrink: bool = False
    start: str = "at the same height"
    use_flow: bool = True

    def __post_init__(self) -> None:
        if self.start not in STARTS:
            raise ValueError(f"start: found {self.start!r}, wanted one of {', '.join(map(repr, STARTS))}")


VARIANTS = {
    "ours": LoopSettings(beta1=None, inside=True),
    "paper": LoopSettings(start="of all heights"),
    "released": LoopSettings(centred=False, dequantize="noise", after_shrink=True),
}

# -------------------------------------------------------------------------------------------------- the two distances


def ncc_and_gradient(images: Tensor, sources: Tensor, mask: Tensor, *, centred: bool = True) -> tuple[Tensor, Tensor]:
    r"""Correlation of each image with its source (Equation 1), and its gradient with respect to the image.

    With $\hat x$, $\hat s$ the (centred) images divided by their norms,
    $\nabla_x \mathrm{NCC} = (\hat s - \mathrm{NCC}\,\hat x) / \lVert x \rVert$.

    Args:
        images: (B, 1, H, W).
        sources: same shape.
        mask: bool, same shape: the pixels that count.
        centred: subtract each image's mean over the mask first.

    Returns:
        NCC (B, 1, 1, 1), and the gradient, same shape as images, 0 outside the mask.
    """
    x, s = (_centred(values, mask) if centred else values * mask for values in (images, sources))
    length, other = (_norm(values) for values in (x, s))
    ncc = (x * s).sum((1, 2, 3), keepdim=True) / (length * other)
    return ncc, (s / other - ncc * x / length) / length


def flat_regions(sources: Tensor, mask: Tensor | None, quantile: float) -> Tensor:
    """M of Equation 2 for both directions, (B, 2, H, W) bool: where the source has no edge.

    Args:
        sources: (B, 1, H, W).
        mask: bool, where the quantile is taken and flatness counts; the whole slice where None. Over a whole slice
            with much empty background the quantile is 0 and nothing lies strictly below it: the mask is empty.
        quantile: of the size of the gradient.
    """
    size = _sobel(sources).abs()
    inside = torch.ones_like(size, dtype=torch.bool) if mask is None else mask.expand_as(size)
    flat = torch.zeros_like(inside)
    for index in range(len(size)):
        for axis in range(2):
            values = size[index, axis][inside[index, axis]]
            flat[index, axis] = (size[index, axis] < torch.quantile(values, quantile)) & inside[index, axis]
    return flat


def edge_descent(images: Tensor, flat: Tensor) -> Tensor:
    """Minus a subgradient of the L1 norm of M G x (Equation 3) with respect to x: (B, 1, H, W).

    Args:
        images: (B, 1, H, W).
        flat: M, (B, 2, H, W) bool.
    """
    signs = torch.sign(_sobel(images)) * flat
    return -functional.conv_transpose2d(signs, _SOBEL.to(images), padding=1)


_SOBEL = torch.tensor([[[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], [[-1, -2, -1], [0, 0, 0], [1, 2, 1]]])[:, None]


def _sobel(images: Tensor) -> Tensor:
    return functional.conv2d(images, _SOBEL.to(images), padding=1)


def _centred(images: Tensor, mask: Tensor) -> Tensor:
    count = mask.sum((1, 2, 3), keepdim=True)
    return (images - (images * mask).sum((1, 2, 3), keepdim=True) / count) * mask


def _norm(images: Tensor) -> Tensor:
    return images.square().sum((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-12)


# ---------------------------------------------------------------------------------------------------------- Algorithm 1


@dataclass(frozen=True)
class Result:
    """What the loop gives.

    Attributes:
        images: (B, 1, H, W), harmonized.
        ncc: (B, iterations + 1), before the first step and after each.
        shrink: (B, iterations): by how much a step multiplied the part of x that does not follow the source. Below 0
            the step overshoots; below -1 it runs away.
    """

    images: Tensor
    ncc: Tensor
    shrink: Tensor


def optimise(
    flow: Any,
    start: Tensor,
    sources: Tensor,
    mask: Tensor,
    settings: LoopSettings,
    *,
    encoding: Encoding | None = None,
    generator: torch.Generator | None = None,
    watch: Any = None,
) -> Result:
    """Algorithm 1 on a batch of slices.

    Args:
        flow: in eval mode, between (B, 1, H, W) and (B, D); None leaves it out, as `settings.use_flow` False does.
        start: x0, (B, 1, H, W) in [0, 1].
        sources: x_s, the same shape and range.
        mask: bool, the same shape: the brain.
        settings: of the loop.
        encoding: grey levels; 8 bits when None.
        generator: of the dequantization noise, where the settings want noise.
        watch: called with (iteration, images) after each step, to draw the way.

    Returns:
        The harmonized slices with correlations and shrink factors.
    """
    flow = flow if settings.use_flow else None
    encoding, counted = encoding or Encoding(), mask if settings.inside else torch.ones_like(mask)
    flat = flat_regions(sources, mask if settings.inside else None, settings.flat_quantile)
    if settings.beta2 and not bool(flat.any()):
        warnings.warn("no pixel of any source is flat: the edge term of Equation 3 does nothing", stacklevel=2)
    x, passed, path, shrink = start, start, [], []
    for iteration in range(settings.iterations):
        ncc, gradient = ncc_and_gradient(passed, sources, counted, centred=settings.centred)
        path.append(ncc.flatten())
        squared = _norm(_centred(passed, counted) if settings.centred else passed * counted).square()
        beta1 = settings.step * squared if settings.beta1 is None else settings.beta1
        shrink.append((1 - beta1 * ncc / squared).flatten())
        x = passed + beta1 * gradient + settings.beta2 * edge_descent(passed, flat)  # line 2, Equation 13
        if flow is None or (iteration == settings.iterations - 1 and not settings.after_shrink):
            passed = x  # the last shrink is of no use to who returns x_N
        else:
            passed = _through_flow(flow, x, settings, encoding, generator)  # line 3, Equation 12
        if watch is not None:
            watch(iteration, x)
    final = passed if settings.after_shrink else x
    path.append(ncc_and_gradient(final, sources, counted, centred=settings.centred)[0].flatten())
    return Result(final.clamp(0, 1), torch.stack(path, 1), torch.stack(shrink, 1))


def _through_flow(
    flow: Any, images: Tensor, settings: LoopSettings, encoding: Encoding, generator: torch.Generator | None
) -> Tensor:
    """Into the flow, shrink, and back: f^-1((1 - alpha) f(x)); where that is not finite the slice stays as it was."""
    noisy = settings.dequantize == "noise"
    noise = torch.rand(images.shape, generator=generator).to(images) if noisy else None
    latent, _ = flow._transform(encoding.encode(images.clamp(0, 1), noise))
    back, _ = flow._transform.inverse((1 - settings.alpha) * latent)
    decoded = encoding.decode(back, floor=noisy)
    finite = decoded.isfinite().all(3, keepdim=True).all(2, keepdim=True)
    return torch.where(finite, decoded.clamp(0, 1), images)


# -------------------------------------------------------------------------------------------------------- the method


@register
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
    shipped_variants: ClassVar[tuple[str, ...]] = ("ours",)
    is_slicewise: ClassVar[bool] = True
    on_template_grid: ClassVar[bool] = True
    is_trained: ClassVar[bool] = True

    def __init__(self, loop: LoopSettings | None = None, prior: FlowSettings | None = None) -> None:
        self.loop = loop or VARIANTS["ours"]
        self.prior = prior or prior_of(active())
        self.history: History | None = None
        self._flow: Any = None
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
        self.history = train_prior(self._flow, training, validation, self.prior, generator, checkpoint, progress)
        self._flow.eval()
        return self

    def first_steps(self, view: TargetOnly) -> float:
        """Bits per pixel, mean over the first three batches."""
        generator = torch.Generator().manual_seed(0)
        training, validation = self._prepare(view, generator)
        history = train_prior(self._flow, training, validation, self.prior, generator, None, False, steps=3)
        return sum(history.losses) / len(history.losses)

    def _prepare(self, view: TargetOnly, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A new flow, the averaged slices, and slices (B, 1, H, W) of training and of held-out people."""
        scans = view.target
        check_volumes(scans.images, scans.mask, "target scans")
        held_out = max(1, round(self.prior.validation_share * len(scans.images)))
        if held_out >= len(scans.images):
            raise ValueError(f"target scans: found {len(scans.images)} people, wanted at least 2, one of them held out")
        images, tops = slice_minmax(scans.images * scans.mask), slice_tops(scans.images * scans.mask)
        self._start = images.mean(0)[0]
        self._tops = tops.sum(0) / (tops > 0).sum(0).clamp_min(1)
        self._moments = _mean_moments(images, scans.mask)
        with torch.random.fork_rng():
            torch.manual_seed(generator.initial_seed())  # first weights are drawn from torch's global state
            self._flow = new_flow(self.prior, images.shape[2:4])
        training, validation = (slice(-held_out), slice(-held_out, None))
        return tuple(brain_slices(images[people], scans.mask[people]) for people in (training, validation))

    def harmonize(
        self,
        images: Tensor,
        *,
        reference: Tensor | None = None,
        scanner: str | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Bring volumes to the target, axial slice by axial slice.

        Args:
            images: `(N, 1, D, H, W)` on the target's grid; any units.
            reference: not used; the prior takes its place.
            scanner: accepted for the sake of one protocol; every source is treated alike.
            mask: bool, same shape: the brain; the foreground where absent.

        Returns:
            Same shape, float32, in the target's units, 0 outside the mask.

        Raises:
            ValueError: images that are not volumes, not finite, without contrast, or on another grid; no weights.
        """
        check_volumes(images, mask)
        start, tops, _ = self._fitted()
        check_grid(images, tuple(start.shape))
        mask = foreground(images.float()) if mask is None else mask
        result = torch.zeros_like(images, dtype=torch.float32)
        for index, (image, inside) in enumerate(zip(images.detach().float(), mask, strict=True)):
            usable = inside[0].flatten(0, 1).any(0) & (tops.to(image.device) > 0)
            heights = usable.nonzero().squeeze(1)
            if len(heights) == 0:
                raise ValueError(f"mask: found image {index}'s mask where no target person has brain")
            found = self.slices(image[0], inside[0], heights).images
            result[index, 0][..., heights] = (found[:, 0] * tops.to(found)[heights, None, None]).permute(1, 2, 0)
        return result * mask

    @torch.no_grad()
    def slices(self, image: Tensor, inside: Tensor, heights: Sequence[int] | Tensor, *, batch: int = 16) -> Result:
        """Some axial slices of one volume, in [0, 1], with what the loop says about them.

        Args:
            image: (D, H, W) on the target's grid.
            inside: bool, same shape.
            heights: axial positions.
            batch: slices at once.
        """
        heights = torch.as_tensor(heights)
        scaled = slice_minmax((image * inside)[None, None])[0, 0]
        sources, masks = (volume[..., heights].permute(2, 0, 1)[:, None] for volume in (scaled, inside))
        starts = self._starts(heights, masks).to(image)
        generator = torch.Generator().manual_seed(0)  # of the released variant's noise: one scan, one result
        flow, encoding = self._flow.to(image.device), Encoding(self.prior.bits)
        parts = [
            optimise(flow, *chunk, self.loop, encoding=encoding, generator=generator)
            for chunk in zip(starts.split(batch), sources.split(batch), masks.split(batch), strict=True)
        ]
        return Result(*(torch.cat([getattr(part, name) for part in parts]) for name in ("images", "ncc", "shrink")))

    def _starts(self, heights: Tensor, masks: Tensor) -> Tensor:
        """x0 of each slice, (B, 1, D, H), from the brain (B, 1, D, H)."""
        start, _, moments = self._fitted()
        if self.loop.start == "of all heights":
            return start.mean(-1).expand(len(heights), 1, -1, -1)
        starts = start[..., heights.cpu()].permute(2, 0, 1)[:, None]
        if self.loop.start == "at the same height":
            return starts
        mean, deviation = moments[heights.cpu()].T[..., None, None, None]
        own = torch.stack([torch.stack([x[m].mean(), x[m].std()]) for x, m in zip(starts, masks.cpu(), strict=True)])
        own_mean, own_deviation = own.T[..., None, None, None]
        stretched = (starts - own_mean) * deviation / own_deviation.clamp_min(1e-6) + mean
        return stretched.clamp(0, 1) * masks.cpu()

    @property
    def settings(self) -> FlowSettings:
        """What the weights depend on: the prior's settings; those of the loop may change after."""
        return self.prior

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
        start, tops, moments = self._fitted()
        prior = self.prior
        numbers = [prior.levels, prior.steps, prior.hidden, prior.bits, MIXINGS.index(prior.mixing)]
        packed = packed_image(start, start > 0, most_bytes=START_BYTES)
        packed = {f"start.{name}": value for name, value in packed.items()}
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
        levels, steps, hidden, bits, mixing = state["prior"].tolist()
        self.prior = replace(self.prior, levels=levels, steps=steps, hidden=hidden, bits=bits, mixing=MIXINGS[mixing])
        self._start, self._tops, self._moments = unpacked_image(packed), state["tops"], state["moments"]
        self._flow = new_flow(self.prior, self._start.shape[:2])
        own = self._flow.state_dict()
        counters = {name: own[name] for name in own.keys() - without_counters(self._flow).keys()}
        try:
            self._flow.load_state_dict(counters | flow)
        except RuntimeError as error:
            raise ValueError(f"{self.name}: found a flow of another form, wanted {self.prior}: {error}") from error
        self._flow.eval()
        return self

    def _fitted(self) -> tuple[Tensor, Tensor, Tensor]:
        if self._flow is None or self._start is None or self._tops is None or self._moments is None:
            raise ValueError(f"{self.name}: found no prior, wanted `fit` or loaded weights")
        return self._start, self._tops, self._moments


def slice_tops(volumes: Tensor) -> Tensor:
    """Largest value of every axial slice: (N, W) from (N, 1, D, H, W)."""
    return volumes.amax((1, 2, 3))


def _mean_moments(images: Tensor, mask: Tensor) -> Tensor:
    """(W, 2): mean and deviation inside the brain of slices (N, 1, D, H, W), mean over the people; 0 without brain."""
    count = mask.sum((1, 2, 3))  # (N, W)
    mean = (images * mask).sum((1, 2, 3)) / count.clamp_min(1)
    spread = ((images - mean[:, None, None, None]).square() * mask).sum((1, 2, 3)) / count.clamp_min(1)
    return torch.stack([mean, spread.sqrt()], -1).sum(0) / (count > 0).sum(0).clamp_min(1)[:, None]
