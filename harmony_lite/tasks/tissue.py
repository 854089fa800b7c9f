"""Three tissues of a skull-stripped T1-weighted scan: CSF, grey and white matter, and their volumes.

Two classifiers of one family (Y. Zhang, M. Brady, S. Smith, IEEE TMI 20, 2001: a hidden Markov random field whose
classes are normal in intensity): DIPY's, which is always there, and FSL's FAST where `fast` is on the PATH. They do
not give the same numbers (their labels of two real scans agree to Dice 0.83 to 0.92), so every result carries the
name of what made it, and two of them never belong in one table.

Known failings, here as on real scans: voxels that are half grey matter and half CSF go to CSF, whose volume comes out
1.1 to 1.6 times too large, and more so the longer DIPY's classifier runs. Hence ten iterations.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from harmony_lite.images import nifti
from harmony_lite.images.checks import check_volumes
from harmony_lite.images.normalize import foreground
from harmony_lite.simulate.physics import TISSUES

__all__ = ["CLASSES", "Settings", "Tissues", "segment_tissues", "spacing_in_mm", "volumes_ml"]

CLASSES = TISSUES[:3]  # CSF, GM, WM, in the order of the true fractions


@dataclass(frozen=True)
class Settings:
    """How DIPY's classifier runs; chosen on real scans against FAST, not on simulated ones.

    Attributes:
        beta: weight of the neighbours.
        iterations: of expectation and maximization; more of them move grey matter into CSF.
        percentile: inside the mask, to which brighter voxels are cut: the classifier scales by the maximum.
    """

    beta: float = 0.1
    iterations: int = 10
    percentile: float = 99.5


@dataclass(frozen=True)
class Tissues:
    """A segmentation.

    Attributes:
        labels: (N, 1, D, H, W) uint8: 0 outside the mask, 1 CSF, 2 GM, 3 WM.
        posteriors: (N, 3, D, H, W) float32, 0 to 1, in the order of `CLASSES`; they sum to 1 inside the mask.
        classifier: name and version of what made it.
    """

    labels: Tensor
    posteriors: Tensor
    classifier: str

    def above(self, threshold: float = 0.8) -> Tensor:
        """Where a tissue's posterior is over a threshold, as MISPEL (Torbati 2021) counts tissue: (N, 3, D, H, W) bool.

        Raises:
            ValueError: a threshold that is not between 0 and 1.
        """
        if not 0 < threshold < 1:
            raise ValueError(f"threshold: found {threshold:g}, wanted between 0 and 1")
        return self.posteriors > threshold


def segment_tissues(
    images: Tensor,
    mask: Tensor | None = None,
    *,
    spacing: float | Sequence[float],
    classifier: str = "auto",
    settings: Settings | None = None,
) -> Tissues:
    """Segment scans into CSF, grey and white matter.

    Args:
        images: (N, 1, D, H, W) skull-stripped T1-weighted scans, any units, CSF dark and white matter bright.
        mask: bool, same shape: the brain; the foreground where absent.
        spacing: voxel size in mm, one number or three.
        classifier: "auto" takes FAST where `fast` is on the PATH and DIPY otherwise; "dipy" or "fast" insists.
        settings: of DIPY's classifier.

    Returns:
        Labels, posteriors, and which classifier made them.

    Raises:
        ValueError: not volumes, not finite, a mask of another shape, a brain without contrast, an unknown classifier,
            FAST that fails.
        FileNotFoundError: FAST asked for and not found.
    """
    if classifier not in ("auto", "dipy", "fast"):
        raise ValueError(f"classifier: found {classifier!r}, wanted auto, dipy or fast")
    check_volumes(images, mask, contrast=False)
    mask = foreground(images) if mask is None else mask
    size = spacing_in_mm(spacing)
    program = None if classifier == "dipy" else shutil.which("fast")
    if program is None and classifier == "fast":
        raise FileNotFoundError("fast: found no such program on the PATH, wanted FSL's FAST; or classifier='dipy'")
    posteriors = torch.zeros(len(images), 3, *images.shape[2:])
    for index, (image, inside) in enumerate(zip(images.detach().cpu(), mask.cpu(), strict=True)):
        values, box = _clipped_and_cropped(image[0].double().numpy(), inside[0].numpy(), settings or Settings(), index)
        found = _dipy(values, settings or Settings()) if program is None else _fast(values, size, program)
        total = found.sum(-1, keepdims=True)
        # a voxel that is background to the classifier belongs to the darkest tissue
        found = np.where(total > 0, found / np.where(total > 0, total, 1), np.array([1.0, 0.0, 0.0]))
        posteriors[(index, slice(None), *box)] = torch.from_numpy(np.moveaxis(found, -1, 0).astype(np.float32))
    posteriors *= mask.cpu()
    labels = (posteriors.argmax(1, keepdim=True) + 1).to(torch.uint8) * mask.cpu()
    made_by = _dipy_name() if program is None else "FSL FAST"
    return Tissues(labels.to(images.device), posteriors.to(images.device), made_by)


def volumes_ml(tissues: Tissues, spacing: float | Sequence[float], *, threshold: float | None = None) -> pd.DataFrame:
    """Volumes in millilitres, one row per scan: CSF, GM, WM, and the classifier that made them.

    Args:
        tissues: from `segment_tissues`.
        spacing: voxel size in mm, one number or three.
        threshold: count voxels whose posterior is above it rather than labels; MISPEL takes 0.8. CSF is not usable
            that way: it is thin, and voxels that it shares with grey matter get high CSF posteriors. On simulated scans
            at 2 mm the volume over 0.8 is two and a half times that of the voxels which truly hold so much CSF, and
            its Dice with them 0.56.

    Raises:
        ValueError: a threshold that is not between 0 and 1, a voxel size that is not positive.
    """
    if threshold is None:
        counted = torch.cat([tissues.labels == label for label in (1, 2, 3)], dim=1)
    else:
        counted = tissues.above(threshold)
    millilitres = counted.flatten(2).sum(2).double() * float(np.prod(spacing_in_mm(spacing))) / 1000
    return pd.DataFrame(millilitres.cpu().numpy(), columns=list(CLASSES)).assign(classifier=tissues.classifier)


def _dipy(values: np.ndarray, settings: Settings) -> np.ndarray:
    """Posteriors (d, h, w, 3) by DIPY's hidden Markov classifier; 0 is background, a fourth class that is left out."""
    from dipy.segment.tissue import TissueClassifierHMRF

    # Where the image is exactly 0 the classifier puts noise of its own, another one each time. It finds none here:
    # the background gets the same noise beforehand, and the same scan always gives the same result.
    noise = 1e-3 + 1e-4 * np.random.default_rng(0).standard_normal(values.shape)
    _, _, found = TissueClassifierHMRF(verbose=False).classify(
        np.where(values == 0, noise, values), len(CLASSES), settings.beta, max_iter=settings.iterations
    )
    if not np.isfinite(found).all():
        raise ValueError("images: found a class without a voxel in the classifier, wanted three tissues of a T1w scan")
    return found


def _fast(values: np.ndarray, spacing: tuple[float, ...], program: str) -> np.ndarray:
    """Posteriors (d, h, w, 3) by FSL's FAST, three classes of a T1-weighted image."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "brain.nii.gz", Path(folder) / "out"
        volume = torch.from_numpy(values.astype(np.float32))[None, None]
        nifti.write(source, volume, nifti.NiftiScan.from_volume(volume, np.diag([*spacing, 1.0])))
        command = [program, "-t", "1", "-n", "3", "-p", "-o", str(out), str(source)]
        done = subprocess.run(command, capture_output=True, text=True)
        maps = [out.with_name(f"out_prob_{index}.nii.gz") for index in range(3)]
        if done.returncode or not all(path.is_file() for path in maps):
            last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
            raise ValueError(f"fast: found exit status {done.returncode} ({last}), wanted three maps of probability")
        return np.stack([nifti.read_map(path).volume[0, 0].numpy() for path in maps], axis=-1)


def _dipy_name() -> str:
    from importlib.metadata import version

    return f"DIPY {version('dipy')} hidden Markov random field"


def _clipped_and_cropped(
    image: np.ndarray, inside: np.ndarray, settings: Settings, index: int
) -> tuple[np.ndarray, tuple[slice, ...]]:
    """A scan from 0 to 1 inside its mask and 0 around, cut to the brain's box with a rim; and the box."""
    low, high = np.percentile(image[inside], [0, settings.percentile])
    if high <= low:
        raise ValueError(f"images: found image {index} constant at {low:g} inside its mask, wanted one with contrast")
    if high <= 0:
        raise ValueError(f"images: found image {index} not above 0 inside its mask, wanted intensities of a magnitude")
    values = np.where(inside, np.clip(image, 0, high) / high, 0.0)  # 0 is background to the classifier
    box = tuple(slice(max(int(where.min()) - 1, 0), int(where.max()) + 2) for where in np.nonzero(inside))
    return np.ascontiguousarray(values[box]), box


def spacing_in_mm(spacing: float | Sequence[float]) -> tuple[float, ...]:
    """A voxel's three sides, from one number or three; ValueError where they are not positive."""
    size = (float(spacing),) * 3 if isinstance(spacing, int | float) else tuple(float(s) for s in spacing)
    if len(size) != 3 or not all(0 < s < float("inf") for s in size):
        raise ValueError(f"spacing: found {spacing}, wanted one positive number of mm or three")
    return size
