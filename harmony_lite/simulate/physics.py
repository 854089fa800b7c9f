"""From tissue to signal: relaxation constants and three signal equations.

Each pulse sequence is a function of tissue (T1, T2 or T2*, proton density) and protocol (times, flip angle). All
broadcast over tensors, so one call gives a table of tissues x transmit fields, and all are differentiable. Times are in
seconds, angles in degrees. `kappa` is the relative transmit field B1+: the flip angle that the tissue really sees is
`kappa` times the nominal one, which is why a transmit field changes contrast and not only brightness.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "TISSUES",
    "TissueConstants",
    "mprage_magnetization",
    "mprage_signal",
    "mprage_signed_signal",
    "spin_echo_signal",
    "spoiled_gradient_echo_signal",
    "tissue_constants",
]

TISSUES = ("CSF", "GM", "WM", "lesion")


@dataclass(frozen=True)
class TissueConstants:
    """Relaxation times in seconds and proton density relative to water, one value per entry of `TISSUES`."""

    t1: Tensor
    t2: Tensor
    t2star: Tensor
    pd: Tensor


# T1: Wright 2008 and Marques 2010 bracket the grey and white values at 3 T, Wright those at 1.5 T; the T1 of CSF is
# about 4.2 s (BrainWeb's 2.57 s would double its signal in an MPRAGE). T2*: Peters 2007. Proton density: Wansapura
# 1999, rescaled to water. Lesions: BrainWeb's multiple-sclerosis class, T1 half as long again as white matter's.
_CONSTANTS = {
    1.5: {
        "t1": (4.200, 1.100, 0.650, 0.980),
        "t2": (2.000, 0.095, 0.075, 0.237),
        "t2star": (0.500, 0.084, 0.066, 0.204),
        "pd": (1.00, 0.83, 0.71, 0.78),
    },
    3.0: {
        "t1": (4.200, 1.400, 0.840, 1.260),
        "t2": (2.000, 0.095, 0.075, 0.237),
        "t2star": (0.500, 0.066, 0.053, 0.160),
        "pd": (1.00, 0.83, 0.71, 0.78),
    },
}


def tissue_constants(field: float) -> TissueConstants:
    """Constants of CSF, grey matter, white matter and lesion at 1.5 or 3 tesla.

    Raises:
        ValueError: another field strength.
    """
    if field not in _CONSTANTS:
        raise ValueError(f"field: found {field} T, wanted one of {sorted(_CONSTANTS)} T")
    return TissueConstants(**{name: torch.tensor(values) for name, values in _CONSTANTS[field].items()})


def _radians(degrees: float | Tensor, like: Tensor) -> Tensor:
    """An angle in the precision of `like`: a plain number would otherwise become a single-precision one."""
    return torch.deg2rad(degrees if isinstance(degrees, Tensor) else like.new_tensor(degrees))


def spin_echo_signal(
    t1: Tensor, t2: Tensor, pd: Tensor, *, tr: float, te: float, kappa: float | Tensor = 1.0
) -> Tensor:
    """Spin echo in its steady state: `pd sin(a) (1 - E) / (1 + E cos(a)) exp(-TE/T2)`, `E = exp(-TR/T1)`.

    `a = kappa 90` degrees; at `kappa = 1` the fraction is the textbook's `1 - E`. The refocusing pulse is taken as
    perfect: it turns what the excitation left of Mz upside down, hence the plus sign. Arguments broadcast; seconds.
    """
    angle = _radians(90.0 * kappa, t1)
    recovery = torch.exp(-tr / t1)
    return pd * torch.sin(angle) * (1 - recovery) / (1 + recovery * torch.cos(angle)) * torch.exp(-te / t2)


def spoiled_gradient_echo_signal(
    t1: Tensor, t2star: Tensor, pd: Tensor, *, tr: float, te: float, flip: float | Tensor, kappa: float | Tensor = 1.0
) -> Tensor:
    """Spoiled gradient echo in its steady state (FLASH, TFE without preparation).

    `pd sin(a) (1 - E) / (1 - E cos a) exp(-TE/T2*)` with `E = exp(-TR/T1)` and `a = kappa flip`; largest at the
    Ernst angle `cos a = E`. Arguments broadcast; seconds and degrees.
    """
    angle = _radians(flip * kappa, t1)
    recovery = torch.exp(-tr / t1)
    return pd * torch.sin(angle) * (1 - recovery) / (1 - recovery * torch.cos(angle)) * torch.exp(-te / t2star)


# An event of the sequence takes the longitudinal magnetization Mz (relative to its equilibrium) to p Mz + q. Two events
# in a row are again such a map, and so is a train of n equal ones: that is the whole closed form of the MPRAGE.
_Affine = tuple[Tensor, Tensor]


def _then(first: _Affine, second: _Affine) -> _Affine:
    (p1, q1), (p2, q2) = first, second
    return p2 * p1, p2 * q1 + q2


def _wait(seconds: float, t1: Tensor) -> _Affine:
    decay = torch.exp(-seconds / t1)
    return decay, 1 - decay


def _shots(count: int, spacing: float, cosine: Tensor, t1: Tensor) -> _Affine:
    """`count` times: a pulse (Mz -> Mz cos a), then recovery for `spacing`; a geometric series."""
    decay = torch.exp(-spacing / t1)
    ratio = cosine * decay
    p = ratio**count
    return p, (1 - decay) * (1 - p) / (1 - ratio)


def mprage_magnetization(
    t1: Tensor,
    *,
    tr: float,
    ti: float,
    flip: float,
    n_shots: int,
    echo_spacing: float,
    kappa: float | Tensor = 1.0,
    efficiency: float = 1.0,
) -> Tensor:
    """Signed Mz just before the pulse that reads the centre of k-space, in the steady state, relative to equilibrium.

    Signed, because a voxel that holds two tissues adds their signals *before* the magnitude is taken: CSF is still
    negative at the usual inversion times.

    Args:
        t1: seconds; broadcasts with `kappa`.
        tr: inversion to inversion.
        ti: inversion to the centre of k-space, `n_shots // 2` shots after the readout began.
        flip: nominal readout flip angle in degrees.
        n_shots: readout pulses after each inversion.
        echo_spacing: seconds from one readout pulse to the next.
        kappa: relative transmit field; it scales the readout pulses, the inversion is adiabatic.
        efficiency: of the inversion; 1 turns Mz to -Mz.

    Raises:
        ValueError: a readout that does not fit between inversion and TI, or between TI and the next inversion.
    """
    before = n_shots // 2
    delay, rest = ti - before * echo_spacing, tr - ti - (n_shots - before) * echo_spacing
    if min(delay, rest) < -1e-9:  # round-off of times that fit exactly
        raise ValueError(
            f"MPRAGE timing: {n_shots} shots of {echo_spacing:g} s with TI {ti:g} s and TR {tr:g} s leave "
            f"{delay:.3f} s before and {rest:.3f} s after the readout, wanted neither below zero"
        )
    cosine = torch.cos(_radians(flip * kappa, t1))
    inversion = (-efficiency * torch.ones_like(t1), torch.zeros_like(t1))
    to_centre = _then(_then(inversion, _wait(delay, t1)), _shots(before, echo_spacing, cosine, t1))
    from_centre = _then(_shots(n_shots - before, echo_spacing, cosine, t1), _wait(rest, t1))
    p, q = _then(to_centre, from_centre)
    steady = q / (1 - p)  # Mz before the inversion reproduces itself: M = p M + q
    return to_centre[0] * steady + to_centre[1]


def mprage_signed_signal(
    t1: Tensor,
    t2star: Tensor,
    pd: Tensor,
    *,
    te: float | tuple[float, ...],
    flip: float,
    kappa: float | Tensor = 1.0,
    **timing: float,
) -> Tensor:
    """`pd Mz sin(kappa flip) exp(-TE/T2*)` with the sign of Mz: what a voxel adds up before the magnitude is taken.

    Args:
        t1: seconds; broadcasts with `t2star`, `pd` and `kappa`.
        t2star: seconds.
        pd: proton density relative to water.
        te: echo time, or several, whose root mean square is taken (multi-echo MPRAGE).
        flip: nominal readout flip angle in degrees.
        kappa: relative transmit field.
        timing: `tr`, `ti`, `n_shots`, `echo_spacing` and `efficiency` of `mprage_magnetization`.

    Raises:
        ValueError: a readout that does not fit.
    """
    mz = mprage_magnetization(t1, flip=flip, kappa=kappa, **timing)
    echoes = te if isinstance(te, tuple) else (te,)
    decay = torch.stack([torch.exp(-echo / t2star) for echo in echoes]).square().mean(0).sqrt()
    return pd * mz * torch.sin(_radians(flip * kappa, t1)) * decay


def mprage_signal(
    t1: Tensor,
    t2star: Tensor,
    pd: Tensor,
    *,
    tr: float,
    ti: float,
    te: float,
    flip: float,
    n_shots: int,
    echo_spacing: float,
    kappa: float | Tensor = 1.0,
    efficiency: float = 1.0,
) -> Tensor:
    """Magnitude signal of an MPRAGE: `pd |Mz| sin(kappa flip) exp(-TE/T2*)` with Mz from `mprage_magnetization`.

    Arguments broadcast; seconds and degrees. Raises `ValueError` when the readout does not fit.

    >>> import torch
    >>> t1, t2star, pd = torch.tensor([1.4, 0.84]), torch.tensor([0.066, 0.053]), torch.tensor([0.83, 0.71])
    >>> gm, wm = mprage_signal(t1, t2star, pd, tr=2.4, ti=1.0, te=0.00316, flip=8, n_shots=176, echo_spacing=0.007)
    >>> print(f"{gm / wm:.2f}")
    0.65
    """
    timing = {"tr": tr, "ti": ti, "n_shots": n_shots, "echo_spacing": echo_spacing, "efficiency": efficiency}
    return mprage_signed_signal(t1, t2star, pd, te=te, flip=flip, kappa=kappa, **timing).abs()
