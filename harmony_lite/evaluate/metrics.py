"""Measures of harmonization, in reading order: intensity, distribution, overlap, surface, volume, bits per dimension.

Images are `(N, 1, H, W)` slices or `(N, 1, D, H, W)` volumes of any finite range; a mask is bool and of the same shape,
and without one every voxel counts. Segmentations have the same two shapes: bool masks, or whole-numbered labels of
which `labels` names those to be measured. Every measure returns float64 on the CPU: `(N,)`, one value per image, or
`(N, L)`, one per image and label, where `labels` is given. All raise ValueError for shapes that do not fit, values that
are not finite, an empty mask, and for a quantity that the input leaves undefined (a constant reference has no range).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from scipy import ndimage, spatial, stats
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from harmony_lite.evaluate import arguments
from harmony_lite.evaluate.agreement import (
    intraclass_correlation,
    mean_absolute_volume_difference,
    rmse_across_scanners,
)
from harmony_lite.images.checks import check_mask

__all__ = ["bits_per_dim", "cosine", "dice", "hd95", "intraclass_correlation", "iou", "mae"]
__all__ += ["mean_absolute_volume_difference", "modified_hausdorff", "ncc", "nwd", "psnr", "ravd"]
__all__ += ["rmse_across_scanners", "ssim", "wasserstein"]

# --- intensity, voxel by voxel


def psnr(
    image: Tensor, reference: Tensor, mask: Tensor | None = None, data_range: float | Tensor | None = None
) -> Tensor:
    """Peak signal-to-noise ratio in dB, 10 log10(range^2 / mean squared error); infinite for equal images.

    Args:
        image: the image to judge.
        reference: the same person on the same grid.
        mask: the voxels that count.
        data_range: one number, or one per image; None: the reference's maximum minus minimum inside the mask. The
            choice moves the result (twice the range is 6 dB), so state it beside every number.

    >>> reference = torch.tensor([0.0, 1.0]).repeat(8).reshape(1, 1, 4, 4)
    >>> psnr(reference + 0.1, reference).round(decimals=4)  # range 1, error 0.1 everywhere
    tensor([20.], dtype=torch.float64)
    """
    pairs = arguments.pairs_inside(image, reference, mask)
    ranges = arguments.positive_ranges(data_range, [true for _, true in pairs])
    with np.errstate(divide="ignore"):  # equal images: no error at all, infinitely many dB
        return _values(
            peak_signal_noise_ratio(true.numpy(), ours.numpy(), data_range=width)
            for (ours, true), width in zip(pairs, ranges, strict=True)
        )


def ssim(
    image: Tensor, reference: Tensor, mask: Tensor | None = None, data_range: float | Tensor | None = None
) -> Tensor:
    """Structural similarity, at most 1 (Wang et al. 2004), in 2D for slices and in 3D for volumes.

    Gaussian window, sigma 1.5 voxels, 11 wide on each axis; population covariances; K1 = 0.01, K2 = 0.03. The map is
    averaged inside the mask; without a mask, over all voxels whose window lies inside the image (5 off every border).
    Windows at the mask's edge see what lies outside it, so the two images' backgrounds have to be alike.
    `data_range` as for `psnr`. Every axis needs 11 voxels.
    """
    pairs = arguments.pairs_inside(image, reference, mask)
    ranges = arguments.positive_ranges(data_range, [true for _, true in pairs])
    if min(image.shape[2:]) < 11:
        raise ValueError(f"image: found shape {tuple(image.shape)}, wanted at least 11 voxels along every axis")
    scores = []
    for n, width in enumerate(ranges):
        true, ours = (images[n, 0].detach().cpu().double().numpy() for images in (reference, image))
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": width}
        mean, score_map = structural_similarity(true, ours, full=True, **options)
        scores.append(mean if mask is None else score_map[mask[n, 0].cpu().numpy()].mean())
    return _values(scores)


def ncc(image: Tensor, reference: Tensor, mask: Tensor | None = None) -> Tensor:
    """Normalized cross-correlation with the means taken off (Pearson), in [-1, 1]: blind to gain and offset.

    >>> reference = torch.arange(16.0).reshape(1, 1, 4, 4)
    >>> ncc(3 * reference + 7, reference).round(decimals=4), cosine(3 * reference + 7, reference).round(decimals=4)
    (tensor([1.], dtype=torch.float64), tensor([0.9937], dtype=torch.float64))
    """
    return _angles(arguments.pairs_inside(image, reference, mask), centred=True)


def cosine(image: Tensor, reference: Tensor, mask: Tensor | None = None) -> Tensor:
    """Cosine of the angle between the images as vectors, means left in: blind to gain, not to offset.

    What BlindHarmony's public code calls NCC. In [-1, 1], and close to 1 for any two bright images.
    """
    return _angles(arguments.pairs_inside(image, reference, mask), centred=False)


def mae(predicted: Tensor, true: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean absolute error per image; or per person, for two `(N,)` vectors such as ages in years.

    The papers' MAE of age is the mean of the latter over people.

    >>> mae(torch.tensor([61.0, 40.0]), torch.tensor([58.0, 41.0]))
    tensor([3., 1.], dtype=torch.float64)
    """
    if mask is None and isinstance(predicted, Tensor) and predicted.ndim == 1:
        predicted = arguments.checked_table(predicted, "predicted", axes=1)
        true = arguments.checked_table(true, "true", axes=1)
        arguments.same_shape(predicted, true, "predicted", "true")
        return (predicted - true).abs()
    pairs = arguments.pairs_inside(predicted, true, mask, "predicted", "true")
    return _values((ours - truth).abs().mean() for ours, truth in pairs)


# --- distribution of intensities, place ignored


def wasserstein(
    image: Tensor, reference: Tensor, mask: Tensor | None = None, *, reference_mask: Tensor | None = None
) -> Tensor:
    """First Wasserstein distance between the intensity distributions, in the images' own units.

    The mean distance by which intensities have to be moved to turn one histogram into the other. Voxels are not paired,
    so the two may show different people on different grids: then give each its own mask. One reference serves all N.

    >>> image = torch.arange(32.0).reshape(2, 1, 4, 4)
    >>> wasserstein(image + 0.25, image)  # a shift costs the shift
    tensor([0.2500, 0.2500], dtype=torch.float64)
    """
    ours = arguments.values_inside(image, mask, "image")
    own = ("mask", mask) if reference_mask is None else ("reference_mask", reference_mask)
    true = arguments.values_inside(reference, own[1], "reference", own[0])
    if len(true) not in (1, len(ours)):
        raise ValueError(f"reference: found {len(true)} images, wanted 1 or {len(ours)}, as many as image has")
    true = true * (len(ours) // len(true))
    return _values(stats.wasserstein_distance(a.numpy(), b.numpy()) for a, b in zip(ours, true, strict=True))


def nwd(
    source: Tensor, harmonized: Tensor, target: Tensor, mask: Tensor | None = None, *, target_mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Normalized Wasserstein distances nWD(i,p), nWD(t,p) in per cent (HAIL, section 2.2, Eq. 1).

    nWD(i,p) = 100 WD(source, harmonized) / WD(source, target): how far the histogram has moved, 100 when it arrives.
    nWD(t,p) = 100 WD(target, harmonized) / WD(source, target): how far it still is, 0 when it arrives.

    Args:
        source: the scans before.
        harmonized: the same scans after.
        target: one image, or one per source image; another person's as in HAIL, or the same person's.
        mask: inside source and harmonized, and inside the target too where it is the same person's.
        target_mask: inside the target, where it is another person's. Without masks the size of the head is part of the
            histogram (HAIL's whole volumes), and nWD(t,p) cannot reach 0 between two people.

    ValueError as everywhere, and where source and target have the same histogram already: there is no gap.
    HAIL does not say which Wasserstein distance it takes; here it is the first.

    >>> source = torch.arange(16.0).reshape(1, 1, 4, 4)
    >>> nwd(source, source + 3, source + 4)
    (tensor([75.], dtype=torch.float64), tensor([25.], dtype=torch.float64))
    """
    for images, name in ((source, "source"), (harmonized, "harmonized"), (target, "target")):
        arguments.checked_images(images, name)
    arguments.same_shape(source, harmonized, "source", "harmonized")
    inside_target, name = (mask, "mask") if target_mask is None else (target_mask, "target_mask")
    if inside_target is not None:
        check_mask(inside_target, target, "target", name=name)
    gap = wasserstein(source, target, mask, reference_mask=target_mask)
    if (gap == 0).any():
        which = int(gap.argmin())
        raise ValueError(f"source: found image {which} with the target's histogram already, wanted another one")
    moved = wasserstein(harmonized, source, mask)
    left = wasserstein(harmonized, target, mask, reference_mask=target_mask)
    return 100 * moved / gap, 100 * left / gap


# --- overlap of segmentations


def dice(segmentation: Tensor, truth: Tensor, labels: Sequence[int] | None = None) -> Tensor:
    """Dice similarity coefficient 2 |A and B| / (|A| + |B|), in [0, 1]; NaN for a structure that neither has.

    >>> segmentation, truth = torch.tensor([1, 1, 0, 2]), torch.tensor([1, 0, 0, 2])
    >>> dice(segmentation.reshape(1, 1, 2, 2), truth.reshape(1, 1, 2, 2), labels=[1, 2])
    tensor([[0.6667, 1.0000]], dtype=torch.float64)
    """
    return _per_structure(lambda a, b: 2 * (a & b).sum() / (a.sum() + b.sum()).double(), segmentation, truth, labels)


def iou(segmentation: Tensor, truth: Tensor, labels: Sequence[int] | None = None) -> Tensor:
    """Intersection over union (Jaccard), in [0, 1]: Dice / (2 - Dice); NaN for a structure that neither has."""
    return _per_structure(lambda a, b: (a & b).sum() / (a | b).sum().double(), segmentation, truth, labels)


# --- distance between surfaces


def modified_hausdorff(
    segmentation: Tensor,
    truth: Tensor,
    *,
    spacing: float | Sequence[float] | None = None,
    labels: Sequence[int] | None = None,
) -> Tensor:
    """Modified Hausdorff distance in mm: the larger of the two mean distances from surface to surface.

    Dubuisson and Jain 1994, their distance number 22. The surface is the structure's voxels that have a face neighbour
    outside it (beyond the image counts as outside). A structure in only one of the two: infinite; in neither: NaN.

    Args:
        segmentation: the structure as found.
        truth: the structure as it should be.
        spacing: voxel size in mm, one number or one per axis; without it a distance means nothing (ValueError).
        labels: which labels to measure.
    """
    spacing = arguments.spacing_per_axis(spacing, arguments.checked_images(segmentation, "segmentation").ndim - 2)

    def measure(a: Tensor, b: Tensor) -> float:
        if not (a.any() and b.any()):
            return _distance_to_nothing(a, b)
        first, second = (np.argwhere(m & ~ndimage.binary_erosion(m)) * spacing for m in (a.numpy(), b.numpy()))
        there, _ = spatial.KDTree(second).query(first)
        back, _ = spatial.KDTree(first).query(second)
        return max(there.mean(), back.mean())

    return _per_structure(measure, segmentation, truth, labels)


def hd95(
    segmentation: Tensor,
    truth: Tensor,
    *,
    spacing: float | Sequence[float] | None = None,
    labels: Sequence[int] | None = None,
) -> Tensor:
    """95th percentile Hausdorff distance in mm: the larger of the two directed 95th percentiles (MONAI).

    Surfaces, arguments, infinities and NaN as for `modified_hausdorff`. Values carry float32's precision.
    """
    from monai.metrics import compute_hausdorff_distance  # here, because importing MONAI takes seconds

    spacing = arguments.spacing_per_axis(spacing, arguments.checked_images(segmentation, "segmentation").ndim - 2)

    def measure(a: Tensor, b: Tensor) -> float:
        if not (a.any() and b.any()):
            return _distance_to_nothing(a, b)
        options = {"include_background": True, "percentile": 95, "spacing": list(spacing)}
        with warnings.catch_warnings():  # MONAI 1.6 uses an argument of its own that it has deprecated
            warnings.simplefilter("ignore", FutureWarning)
            return compute_hausdorff_distance(a[None, None], b[None, None], **options).item()

    return _per_structure(measure, segmentation, truth, labels)


# --- volumes; how far scanners agree about them stands in `agreement`


def ravd(predicted: Tensor, reference: Tensor, labels: Sequence[int] | None = None) -> Tensor:
    """Relative absolute volume difference 100 |vol(p) - vol(i)| / vol(i) in per cent (HAIL, Eq. 2).

    Args:
        predicted: segmentations of the harmonized images; or volumes in any unit, `(N,)` or `(N, L)`.
        reference: the same of the input images.
        labels: which labels to measure, for segmentations.

    A structure that neither has gives NaN, one that only `predicted` has infinity.

    >>> ravd(torch.tensor([106.0, 570.0]), torch.tensor([100.0, 600.0]))
    tensor([6., 5.], dtype=torch.float64)
    """
    if isinstance(predicted, Tensor) and predicted.ndim > 2:
        names = ("predicted", "reference")
        return _per_structure(lambda a, b: _relative_difference(a.sum(), b.sum()), predicted, reference, labels, names)
    ours = arguments.checked_table(predicted, "predicted")
    input_volumes = arguments.checked_table(reference, "reference")
    arguments.same_shape(ours, input_volumes, "predicted", "reference")
    return _relative_difference(ours, input_volumes)


def bits_per_dim(log_likelihood: Tensor, dimensions: int) -> Tensor:
    """Bits per dimension, -log p(x) / (dimensions log 2), one value per image (Harmonizing Flows, section 3).

    Args:
        log_likelihood: `(N,)` in nats. The density has to be over grey levels: one over images that were scaled
            from 256 levels to [0, 1] reads log2(256) = 8 bits too low.
        dimensions: voxels times channels of one image.

    >>> bits_per_dim(torch.tensor([-100 * math.log(256)]), 100)  # evenly spread over 256 grey levels
    tensor([8.0000], dtype=torch.float64)
    """
    if dimensions < 1:
        raise ValueError(f"dimensions: found {dimensions}, wanted a positive count")
    return -arguments.checked_table(log_likelihood, "log_likelihood", axes=1) / (dimensions * math.log(2))


# --- loops that measures share


def _values(values: Iterable[float | Tensor]) -> Tensor:
    return torch.tensor([float(value) for value in values], dtype=torch.float64)


def _angles(pairs: list[tuple[Tensor, Tensor]], *, centred: bool) -> Tensor:
    cosines = []
    for n, pair in enumerate(pairs):
        for name, values in zip(("image", "reference"), pair, strict=True):
            if (values == (values[0] if centred else 0)).all():
                found = "constant" if centred else "zero everywhere"
                raise ValueError(f"{name}: found image {n} {found} in its mask, wanted one that varies")
        ours, true = (values - values.mean() if centred else values for values in pair)
        cosines.append(ours @ true / (ours.norm() * true.norm()))
    return _values(cosines).clamp(-1, 1)  # round-off can leave the range by 1e-16


def _per_structure(
    measure: Callable[[Tensor, Tensor], float | Tensor],
    segmentation: Tensor,
    truth: Tensor,
    labels: Sequence[int] | None,
    names: tuple[str, str] = ("segmentation", "truth"),
) -> Tensor:
    """`measure` of each pair of bool structures: `(N, L)` for labels, `(N,)` for masks (labels None)."""
    arguments.checked_segmentation(segmentation, labels, names[0])
    arguments.same_shape(segmentation, arguments.checked_segmentation(truth, labels, names[1]), *names)
    pairs = list(zip(segmentation[:, 0].detach().cpu(), truth[:, 0].detach().cpu(), strict=True))
    wanted = [1] if labels is None else list(labels)
    rows = torch.stack([_values(measure(a == label, b == label) for label in wanted) for a, b in pairs])
    return rows[:, 0] if labels is None else rows


def _distance_to_nothing(a: Tensor, b: Tensor) -> float:
    return math.inf if a.any() or b.any() else math.nan


def _relative_difference(ours: Tensor, reference: Tensor) -> Tensor:
    return 100 * (ours - reference).abs() / reference.double()
