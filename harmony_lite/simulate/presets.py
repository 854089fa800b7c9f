"""Protocols and scanners, and the presets: the papers' own scanner tables as data.

Readouts (shots x spacing) are not printed in any of the papers; those used here give the contrasts that the protocols
are known for. Receive field, noise and filters are chosen, not read off a table: they carry what two scanners with one
protocol (BioGraph, Vida) still differ by in the papers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["PRESETS", "Protocol", "Scanner", "full_name", "preset"]


@dataclass(frozen=True)
class Protocol:
    """What the operator sets; seconds and degrees.

    Attributes:
        sequence: "mprage", "spgr" (spoiled gradient echo without preparation) or "spin_echo".
        tr: inversion to inversion for an MPRAGE, pulse to pulse otherwise.
        te: echo time, or several whose root mean square is stored (multi-echo MPRAGE).
        flip: nominal flip angle of the readout; unused by the spin echo.
        ti: inversion to the centre of k-space; MPRAGE only.
        n_shots: readout pulses per inversion; MPRAGE only.
        echo_spacing: between readout pulses; MPRAGE only.
    """

    sequence: str
    tr: float
    te: float | tuple[float, ...]
    flip: float = 90.0
    ti: float = 0.0
    n_shots: int = 0
    echo_spacing: float = 0.0


@dataclass(frozen=True)
class Scanner:
    """A scanner and its protocol.

    Attributes:
        name: as in `PRESETS`.
        source: where the protocol stands in print, and what was chosen here.
        field: tesla, 1.5 or 3.
        protocol: what the operator sets.
        voxel: native voxel along x, y, z in mm; it acts as a point spread on a finer grid.
        receive: sd over the brain of the scanner's own log receive field.
        noise: receiver noise at 1 mm3 as a fraction of white matter's signal.
        sharpen: strength of the reconstruction's unsharp mask; negative blurs.
        blur: sd in mm of a Gaussian reconstruction filter.
        gamma: exponent of a tone curve on the stored image; 1 for none.
        white: stored value of white matter, of 4095.
        misregistration: size of the rigid error that registration to the person's other scans leaves, in mm of shift
            and in degrees of rotation; its direction is drawn for each scan.
    """

    name: str
    source: str
    field: float
    protocol: Protocol
    voxel: tuple[float, float, float] = (1.0, 1.0, 1.0)
    receive: float = 0.05
    noise: float = 0.035
    sharpen: float = 0.0
    blur: float = 0.0
    gamma: float = 1.0
    white: float = 1200.0
    misregistration: float = 0.45


def _mprage(tr, ti, te, flip, n_shots=176, echo_spacing=0.0070) -> Protocol:
    return Protocol("mprage", tr=tr, te=te, flip=flip, ti=ti, n_shots=n_shots, echo_spacing=echo_spacing)


def _prepared(preparation: float, te: float, flip: float, n_shots: int, echo_spacing: float, tr: float) -> Protocol:
    """GE and Philips print the time from the preparation to the readout's begin, not to the centre of k-space."""
    return _mprage(tr, preparation + n_shots * echo_spacing / 2, te, flip, n_shots, echo_spacing)


_OASIS = "BlindHarmony supplement Table 1; BlindHarmonyDiff Table S1"
_HAIL = "HAIL Table 1"
_MISPEL = "MISPEL Table 1; flip angles are not printed: 7 degrees chosen for the multi-echo MPRAGE, 8 for BRAVO"
_ONHARMONY = "ON-Harmony (OpenNeuro ds004712) JSON sidecars"
_ABIDE = "Harmonizing Flows names the site only; protocol from general knowledge of ABIDE I, to be checked"
_ECHOES = (0.00164, 0.00350, 0.00536, 0.00722)  # TE 1.64 ms, spacing 1.86 ms (MISPEL Table 1); four echoes chosen

PRESETS = {
    s.name: s
    for s in (
        Scanner("oasis_trio", _OASIS, 3.0, _mprage(2.4, 1.0, 0.00316, 8), receive=0.05),
        Scanner("oasis_trio_b", _OASIS + " (Domain 4)", 3.0, _mprage(2.4, 1.0, 0.00316, 8), receive=0.06, white=1000),
        Scanner(
            "oasis_vida", _OASIS, 3.0, _mprage(2.3, 0.9, 0.00295, 9),
            voxel=(1.2, 1.05, 1.05), receive=0.10, noise=0.03, sharpen=0.4, white=700,
        ),
        Scanner(
            "oasis_biograph", _OASIS, 3.0, _mprage(2.3, 0.9, 0.00295, 9),
            voxel=(1.2, 1.05, 1.05), receive=0.08, white=900,
        ),
        Scanner(
            # Both papers print TR 9.7 s and TI unknown: 9.7 ms is the echo spacing of the Vision's MPRAGE. With a TI of
            # 20 ms before 128 shots and a delay of 200 ms after them, the centre comes at 0.64 s in a cycle of 1.46 s.
            "oasis_vision", _OASIS + "; TR corrected, see comment", 1.5, _mprage(1.46, 0.64, 0.004, 10, 128, 0.0097),
            voxel=(1.25, 1.0, 1.0), receive=0.15, noise=0.07, blur=0.6, gamma=0.75, white=500,
        ),
        Scanner("oasis_sonata", _OASIS, 1.5, _mprage(1.9, 1.1, 0.00393, 15), receive=0.08, noise=0.05, white=450),
        Scanner(
            # Table 1 prints TR 9500 ms: BRAVO's 9.5 ms echo spacing. TI 600 ms is the preparation time.
            "mispel_ge", _MISPEL + "; TR 9500 ms corrected to 9.5 ms", 3.0,
            _prepared(0.6, 0.0037, 8, 128, 0.0095, 2.3),
            voxel=(1.0, 1.0, 0.5), receive=0.06, sharpen=0.4, white=1800,
        ),
        Scanner(
            "mispel_philips", _MISPEL, 3.0, _mprage(2.53, 1.3, (0.00166, 0.00356, 0.00546, 0.00736), 7, 160, 0.0100),
            receive=0.08, blur=0.3, white=800,
        ),
        Scanner(
            "mispel_prisma", _MISPEL, 3.0, _mprage(2.53, 1.1, _ECHOES, 7, 160, 0.0100),
            receive=0.03, noise=0.02, white=600,
        ),
        Scanner("mispel_trio", _MISPEL, 3.0, _mprage(2.53, 1.2, _ECHOES, 7, 160, 0.0100), receive=0.05, white=550),
        Scanner(
            "hail_a", _HAIL + ", field not printed: 1.5 T chosen", 1.5,
            Protocol("spin_echo", tr=0.6, te=0.0105),
            voxel=(0.41, 0.41, 0.6), receive=0.06, white=2000,
        ),
        Scanner(
            "hail_b", _HAIL + ", field and inversion not printed: 3 T, TI 0.9 s, flip 9 chosen", 3.0,
            _mprage(1.9, 0.9, 0.0025, 9),
            voxel=(0.9, 0.82, 0.82), receive=0.05, white=600,
        ),
        Scanner(
            "hail_c", _HAIL + ", as a gradient echo without preparation; 3 T, flip 8 chosen", 3.0,
            Protocol("spgr", tr=0.00823, te=0.0038, flip=8),
            voxel=(0.94, 1.0, 0.94), receive=0.08, white=1500,
        ),
        Scanner("abide_caltech", _ABIDE, 3.0, _mprage(1.59, 0.8, 0.00273, 10, 144, 0.0070), white=500),
        Scanner(
            "abide_kki", _ABIDE, 3.0, _prepared(0.4, 0.0037, 8, 160, 0.0080, 2.2),
            receive=0.08, blur=0.3, white=900,
        ),
        Scanner(
            "abide_pitt", _ABIDE, 3.0, _mprage(2.1, 1.0, 0.00393, 7),
            voxel=(1.1, 1.1, 1.1), receive=0.10, noise=0.05, white=350,
        ),
        Scanner(
            "abide_nyu", _ABIDE, 3.0, _mprage(2.53, 1.1, 0.00325, 7, 128, 0.0090),
            voxel=(1.3, 1.0, 1.3), receive=0.12, noise=0.05, white=400,
        ),
        Scanner(
            "onharmony_ach", _ONHARMONY + "; TR is the echo spacing, preparation chosen", 3.0,
            _prepared(0.35, 0.00323, 8, 176, 0.0071, 2.1),
            receive=0.08, blur=0.2, white=1100,
        ),
        Scanner(
            "onharmony_ing", _ONHARMONY + "; TR is the echo spacing, preparation chosen", 3.0,
            _prepared(0.35, 0.00317, 8, 176, 0.0070, 2.1),
            receive=0.06, white=1000,
        ),
        Scanner(
            "onharmony_gem", _ONHARMONY + "; TR is the echo spacing, TI the preparation", 3.0,
            _prepared(0.45, 0.00293, 8, 208, 0.00665, 2.0),
            receive=0.06, sharpen=0.4, white=2200,
        ),
        Scanner("onharmony_gep", _ONHARMONY, 3.0, _mprage(2.04, 0.88, 0.00293, 8, 96, 0.0070), sharpen=0.4, white=2400),
        Scanner("onharmony_pri", _ONHARMONY, 3.0, _mprage(2.0, 0.88, 0.00203, 8, 96, 0.0070), receive=0.03, noise=0.02),
        Scanner("onharmony_tri", _ONHARMONY, 3.0, _mprage(2.0, 0.88, 0.00197, 8, 96, 0.0070), receive=0.05, white=900),
        Scanner(
            "t2_spin_echo", "textbook T2-weighted spin echo, for the T1/T2 failure of BlindHarmony", 3.0,
            Protocol("spin_echo", tr=4.0, te=0.100),
            white=500,
        ),
    )
}  # fmt: skip


def preset(scanner: Scanner | str) -> Scanner:
    """A scanner by name; `trio`, `vida`, `vision`, `biograph`, `sonata` are short for the OASIS ones.

    Raises:
        ValueError: an unknown name; the message lists the known ones.
    """
    return scanner if isinstance(scanner, Scanner) else PRESETS[full_name(scanner, tuple(PRESETS))]


def full_name(name: str | None, known: Sequence[str], wanted: str = "one of the presets") -> str:
    """The scanner among those known that a name means: the whole name, or a preset's without its study.

    `trio` is short for `oasis_trio`; where no OASIS scanner of that name is known, for the one that ends so.

    Args:
        name: whole or short.
        known: whole names.
        wanted: what the message says of them.

    Raises:
        ValueError: no name, an unknown one, or a short one that several of the known end with.

    >>> full_name("trio", ["mispel_trio", "oasis_trio"]), full_name("ge", ["mispel_ge", "mispel_trio"])
    ('oasis_trio', 'mispel_ge')
    """
    for candidate in (name, f"oasis_{name}"):
        if candidate in known:
            return candidate
    endings = [candidate for candidate in known if candidate in PRESETS and candidate.endswith(f"_{name}")]
    if len(endings) == 1:
        return endings[0]
    raise ValueError(f"scanner: found {repr(name) if name else 'none'}, wanted {wanted}: {', '.join(endings or known)}")
