"""What MISPEL's paper fixes, where the variants depart from it, and how big a profile makes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harmony_lite.profiles import FULL, GPU, QUICK, TINY

__all__ = ["SIZES", "VARIANTS", "MispelSettings"]


@dataclass(frozen=True)
class MispelSettings:
    """What the paper fixes, and where the variants depart from it.

    Attributes:
        width: channels of the U-Net at full resolution, doubled at each of two poolings; not printed, 32 in the public
            code.
        embeddings: L (section 4.2).
        lambda1: weight of reconstruction in step 1 (Equation 4).
        lambda2: weight of coupling in step 1.
        lambda3: weight of reconstruction in step 2 (Equation 6).
        lambda4: weight of harmonization in step 2.
        learning_rate: of Adam, in both steps.
        epochs: T1 and T2 of Algorithm 1.
        batch: slices.
        slices: axial positions of each person; the paper takes all.
        first_weights: standard deviation of the decoders' first weights; not printed, 0.05 in the public code.
        bias_correction: whether `fit` and `harmonize` run N4 first (section 4.1); False for scans that had it already.
        rectified: ReLU after the decoder, which Equation 1 does not have.
        pairs_over_scanners: the sum over pairs divided by M, where Equation 5 has their mean.
        scale_free: coupling as the share of the embeddings' variance that scanners do not have in common.
        brain_only: losses over the voxels that are brain on every scanner, and the brain's mean as the unit; the paper
            has the whole frame in both.
        solved: step 2 solved to its optimum instead of descended.
    """

    width: int = 32
    embeddings: int = 6
    lambda1: float = 1.0
    lambda2: float = 0.3
    lambda3: float = 1.0
    lambda4: float = 4.0
    learning_rate: float = 1e-3
    epochs: tuple[int, int] = (100, 100)
    batch: int = 4
    slices: int = 181
    first_weights: float = 0.05
    bias_correction: bool = True
    rectified: bool = False
    pairs_over_scanners: bool = False
    scale_free: bool = False
    brain_only: bool = False
    solved: bool = False


VARIANTS: dict[str, dict[str, Any]] = {
    "ours": {"lambda2": 10.0, "scale_free": True, "brain_only": True, "solved": True},
    "paper": {},
    # step 2 of the public code never gets its own weights: reconstruction keeps lambda1 and harmonization has 0
    "released": {"lambda4": 0.0, "rectified": True, "pairs_over_scanners": True},
}

SIZES = {
    QUICK.name: MispelSettings(
        width=8,  # 33,000 parameters an encoder
        epochs=(36, 15),  # of 120 steps
        slices=QUICK.slices,
    ),
    GPU.name: MispelSettings(epochs=(36, 15), batch=16, slices=GPU.slices),  # of the public code's width
    FULL.name: MispelSettings(slices=FULL.slices),
    TINY.name: MispelSettings(width=2, embeddings=3, epochs=(4, 2), slices=TINY.slices),
}
