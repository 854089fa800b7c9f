"""A scanner: protocol, fields, resolution, noise, and what its reconstruction adds; `scan` applies it to a person.

The order is that of the physics: tissue and protocol give a signal, per tissue and transmit field, mixed by fraction
(partial volume); the receive field shades it; the native voxel blurs it; the receiver adds complex noise, whose
magnitude is Rician; the reconstruction filters and rescales; and registration to the person's other scans leaves a
small rigid error. What belongs to the scanner stays the same in every scan, what belongs to the session is drawn anew.
"""

from __future__ import annotations

import hashlib
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from harmony_lite.simulate.anatomy import HEAD_BOX, HEAD_CENTRE, Person
from harmony_lite.simulate.fields import sample
from harmony_lite.simulate.physics import (
    TissueConstants,
    mprage_signed_signal,
    spin_echo_signal,
    spoiled_gradient_echo_signal,
    tissue_constants,
)
from harmony_lite.simulate.presets import Protocol, Scanner, preset

__all__ = ["contrast", "protocol_image", "scan", "tissue_signal"]

_INVERSION_EFFICIENCY = 0.96
_SESSION_FIELD = 0.028  # sd over the brain of the log receive field that changes between sessions


def tissue_signal(protocol: Protocol, constants: TissueConstants, kappa: float | Tensor = 1.0) -> Tensor:
    """Signed signal of each tissue: `constants` and `kappa` broadcast, e.g. (4, 1) with (96,) gives (4, 96).

    Raises:
        ValueError: an unknown sequence, or a readout that does not fit its TR.
    """
    p, c = protocol, constants
    if p.sequence == "spin_echo":
        return spin_echo_signal(c.t1, c.t2, c.pd, tr=p.tr, te=p.te, kappa=kappa)
    if p.sequence == "spgr":
        return spoiled_gradient_echo_signal(c.t1, c.t2star, c.pd, tr=p.tr, te=p.te, flip=p.flip, kappa=kappa)
    if p.sequence != "mprage":
        raise ValueError(f"sequence: found {p.sequence!r}, wanted 'mprage', 'spgr' or 'spin_echo'")
    return mprage_signed_signal(
        c.t1,
        c.t2star,
        c.pd,
        te=p.te,
        flip=p.flip,
        kappa=kappa,
        tr=p.tr,
        ti=p.ti,
        n_shots=p.n_shots,
        echo_spacing=p.echo_spacing,
        efficiency=_INVERSION_EFFICIENCY,
    )


def contrast(scanner: Scanner | str) -> dict[str, float]:
    """Grey over white and CSF over white matter signal of a scanner's protocol, at the nominal flip angle."""
    scanner = preset(scanner)
    csf, gm, wm, lesion = tissue_signal(scanner.protocol, tissue_constants(scanner.field)).abs().tolist()
    return {"GM/WM": gm / wm, "CSF/WM": csf / wm, "lesion/WM": lesion / wm}


def protocol_image(fractions: Tensor, protocol: Protocol, field: float) -> Tensor:
    """Tissue under a protocol, without fields, noise or resolution: what the signal equation alone would show.

    Args:
        fractions: (3, ...) of CSF, GM and WM.
        protocol: what the operator sets.
        field: tesla.

    Returns:
        (...) magnitude relative to white matter's.
    """
    signal = tissue_signal(protocol, tissue_constants(field))[:3]
    return torch.tensordot(signal, fractions, dims=1).abs() / signal[2].abs()


def scan(person: Person, scanner: Scanner | str, generator: torch.Generator) -> Tensor:
    """One scan of a person.

    Args:
        person: from `simulate_person`.
        scanner: a `Scanner` or the name of a preset.
        generator: of this session; another state is another session on the same scanner.

    Returns:
        (1, D, H, W) float32 holding whole numbers 0..4095, skull-stripped: 0 outside the person's brain.
    """
    scanner = preset(scanner)
    position = _position(person)
    signal, white = _signal(person, scanner, position, generator)
    signal = signal * torch.exp(_receive_field(person, scanner, position, generator))
    signal = _gaussian(signal, _point_spread(scanner, person.spacing))
    signal = _rician(signal, scanner.noise * white / math.sqrt(math.prod(person.spacing)), generator)
    signal = _reconstruct(signal, scanner, person.spacing)
    signal = _move(signal, scanner.misregistration, generator) * person.mask
    return _store(signal / white, scanner, generator)


def _position(person: Person) -> Tensor:
    """Voxel centres relative to the isocentre, about -1..1 over the brain: (3, D, H, W)."""
    return ((HEAD_BOX.points(person.tissues.shape[1:]) - HEAD_CENTRE) / 80.0).movedim(-1, 0)


def _signal(person: Person, scanner: Scanner, position: Tensor, generator: torch.Generator) -> tuple[Tensor, float]:
    """Magnitude before the receiver, (1, D, H, W), and white matter's nominal signal.

    A table of tissue x transmit field is made once and looked up per brain voxel. Signed signals are mixed by
    fraction and the magnitude is taken last, as in a voxel.
    """
    constants = tissue_constants(scanner.field)
    white = float(tissue_signal(scanner.protocol, constants)[2].abs())
    own = TissueConstants(
        t1=(constants.t1 * person.t1_factors)[:, None],
        t2=constants.t2[:, None],
        t2star=constants.t2star[:, None],
        pd=constants.pd[:, None],
    )
    levels = torch.linspace(0.6, 1.3, 96)
    table = tissue_signal(scanner.protocol, own, levels)  # (4, 96)
    mask = person.tissues.sum(0) > 0
    kappa = _transmit_field(scanner, position[:, mask], generator)
    step = (kappa.clamp(0.6, 1.3) - 0.6) / 0.7 * 95
    low = step.long().clamp_max(94)
    per_tissue = torch.lerp(table[:, low], table[:, low + 1], step - low)  # (4, N)
    csf, gm, wm = person.tissues[:, mask]
    lesion = person.lesion[0, mask]
    fractions = torch.stack([csf, gm, wm - lesion, lesion])
    signal = torch.zeros(1, *mask.shape)
    signal[0, mask] = (fractions * per_tissue).sum(0).abs() * (1 + person.texture[0, mask])
    return signal, white


def _transmit_field(scanner: Scanner, position: Tensor, generator: torch.Generator) -> Tensor:
    """Relative B1+ at points (3, N): high at the centre, falling outward, tilted a little, +-2 % per session.

    The fall grows with the field strength, because the wavelength shrinks towards the size of the head.
    """
    fall = 0.12 if scanner.field > 2 else 0.04
    tilt = 0.02 * torch.randn(3, generator=_own_generator(scanner, "transmit"))
    session = 1 + 0.02 * float(torch.randn(1, generator=generator))
    return session * (1 + 0.6 * fall - fall * 2.2 * position.square().sum(0) + tilt @ position)


def _receive_field(person: Person, scanner: Scanner, position: Tensor, generator: torch.Generator) -> Tensor:
    """Log receive field: the scanner's own plus the session's, third-order polynomials: (1, D, H, W)."""
    own = _polynomial(person, position, _own_generator(scanner, "receive"))
    session = _polynomial(person, position, generator)
    return scanner.receive * own + _SESSION_FIELD * session


def _polynomial(person: Person, position: Tensor, generator: torch.Generator) -> Tensor:
    """A random third-order polynomial with mean 0 and sd 1 over the brain: its direction is drawn, its size is not."""
    x, y, z = position
    powers = [(i, j, k) for i in range(4) for j in range(4) for k in range(4) if 0 < i + j + k <= 3]
    weights = torch.randn(len(powers), generator=generator)
    field = sum(w * x**i * y**j * z**k for w, (i, j, k) in zip(weights, powers, strict=True))
    inside = field[person.mask[0]]
    return ((field - inside.mean()) / inside.std())[None]


def _own_generator(scanner: Scanner, what: str) -> torch.Generator:
    """A generator that belongs to the scanner: the same numbers in every session."""
    digest = hashlib.sha256(f"{scanner.name} {what}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:6]))


def _point_spread(scanner: Scanner, spacing: tuple[float, ...]) -> tuple[float, ...]:
    """Gaussian sd in mm that widens the grid's voxel to the native one, where that is coarser."""
    return tuple(math.sqrt(max(0.0, v**2 - s**2) / 12) / s for v, s in zip(scanner.voxel, spacing, strict=True))


def _gaussian(volume: Tensor, sigma: tuple[float, ...]) -> Tensor:
    """Separable Gaussian of `sigma` voxels per axis on (1, D, H, W); the background is zero on both sides."""
    for axis, s in enumerate(sigma, start=1):
        if s == 0:
            continue
        kernel = _kernel(s)
        moved = volume.movedim(axis, -1)
        flat = F.conv1d(moved.reshape(-1, 1, moved.shape[-1]), kernel[None, None], padding=len(kernel) // 2)
        volume = flat.reshape(moved.shape).movedim(-1, axis)
    return volume


def _kernel(sigma: float) -> Tensor:
    """Weights with standard deviation `sigma` voxels.

    A Gaussian that is sampled at voxel centres collapses to a single weight below about 0.6 voxels; there, three
    weights with the right variance take its place.
    """
    if sigma < 0.7:
        return torch.tensor([sigma**2 / 2, 1 - sigma**2, sigma**2 / 2])
    reach = math.ceil(3.5 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    return kernel / kernel.sum()


def _rician(signal: Tensor, sd: float, generator: torch.Generator) -> Tensor:
    """Magnitude of the signal with independent Gaussian noise in its real and imaginary part."""
    real = signal + sd * torch.randn(signal.shape, generator=generator)
    return torch.hypot(real, sd * torch.randn(signal.shape, generator=generator))


def _reconstruct(signal: Tensor, scanner: Scanner, spacing: tuple[float, ...]) -> Tensor:
    """The vendor's filter: a Gaussian, then an unsharp mask over 1 mm."""
    signal = _gaussian(signal, tuple(scanner.blur / s for s in spacing))
    if not scanner.sharpen:
        return signal
    smooth = _gaussian(signal, tuple(1.0 / s for s in spacing))
    return (signal + scanner.sharpen * (signal - smooth)).clamp_min(0)


def _move(signal: Tensor, size: float, generator: torch.Generator) -> Tensor:
    """A rigid error of fixed size in a random direction, resampled once linearly, as registered scans are."""
    shift = _direction(generator) * size
    rotation = _direction(generator) * math.radians(size)
    a, b, c = rotation.tolist()
    turn = torch.matrix_exp(torch.tensor([[0, -c, b], [c, 0, -a], [-b, a, 0]]))
    points = (HEAD_BOX.points(signal.shape[1:]) - HEAD_CENTRE) @ turn.T + HEAD_CENTRE + shift
    return sample(signal, HEAD_BOX, points)


def _direction(generator: torch.Generator) -> Tensor:
    direction = torch.randn(3, generator=generator)
    return direction / direction.norm()


def _store(relative: Tensor, scanner: Scanner, generator: torch.Generator) -> Tensor:
    """Tone curve, gain (+-3 % per session) and 12-bit storage; 1 is white matter's nominal signal."""
    gain = scanner.white * (1 + 0.03 * float(torch.randn(1, generator=generator)))
    return (gain * relative.clamp_min(0) ** scanner.gamma).round().clamp(0, 4095)
