"""Signal equations against stepping, closed forms and the known contrasts of the papers' protocols."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harmony_lite.simulate import PRESETS, contrast
from harmony_lite.simulate.physics import (
    mprage_magnetization,
    mprage_signal,
    spin_echo_signal,
    spoiled_gradient_echo_signal,
    tissue_constants,
)


def stepped_magnetization(t1, *, tr, ti, flip, n_shots, echo_spacing, kappa, efficiency):
    """Mz before the central pulse by going through the sequence event by event until it repeats itself."""

    def relax(mz, seconds):
        return 1 + (mz - 1) * math.exp(-seconds / t1)

    before = n_shots // 2
    cosine = math.cos(math.radians(kappa * flip))
    mz, centre, last = 1.0, None, None
    while centre is None or last is None or abs(centre - last) > 1e-14:
        last = centre
        mz = relax(-efficiency * mz, ti - before * echo_spacing)
        for shot in range(n_shots):
            if shot == before:
                centre = mz
            mz = relax(mz * cosine, echo_spacing)
        mz = relax(mz, tr - ti - (n_shots - before) * echo_spacing)
    return centre


@st.composite
def protocols(draw):
    n_shots = draw(st.integers(1, 256))
    spacing = draw(st.floats(0.004, 0.012))
    ti = n_shots // 2 * spacing + draw(st.floats(0.0, 1.2))
    tr = ti + (n_shots - n_shots // 2) * spacing + draw(st.floats(0.0, 2.0))
    return {
        "tr": tr,
        "ti": ti,
        "flip": draw(st.floats(2, 30)),
        "n_shots": n_shots,
        "echo_spacing": spacing,
        "kappa": draw(st.floats(0.7, 1.3)),
        "efficiency": draw(st.floats(0.8, 1.0)),
    }


@settings(max_examples=200, deadline=None)
@given(protocol=protocols(), t1=st.floats(0.3, 4.5))
def test_closed_form_equals_stepping(protocol, t1):
    wanted = stepped_magnetization(t1, **protocol)
    found = float(mprage_magnetization(torch.tensor(t1, dtype=torch.float64), **protocol))
    assert abs(found - wanted) <= 1e-6 * max(abs(wanted), 1e-3)


def test_one_shot_and_long_tr_is_inversion_recovery():
    t1 = torch.tensor([0.5, 0.84, 1.4, 4.2], dtype=torch.float64)
    for ti in (0.3, 0.9, 2.0):
        found = mprage_magnetization(t1, tr=200.0, ti=ti, flip=8, n_shots=1, echo_spacing=0.007, efficiency=0.95)
        torch.testing.assert_close(found, 1 - 1.95 * torch.exp(-ti / t1), rtol=1e-9, atol=1e-9)


def test_gradient_echo_peaks_at_the_ernst_angle():
    t1, tr = torch.tensor(1.1, dtype=torch.float64), 0.012
    angles = torch.linspace(1, 40, 40_000, dtype=torch.float64)
    signal = spoiled_gradient_echo_signal(t1, torch.tensor(0.06), torch.tensor(0.8), tr=tr, te=0.004, flip=angles)
    ernst = math.degrees(math.acos(math.exp(-tr / float(t1))))
    assert abs(float(angles[signal.argmax()]) - ernst) < 0.002


def test_spin_echo_limits():
    one = torch.tensor(1.0)
    assert float(spin_echo_signal(one, one, one, tr=1e6, te=0.0)) == pytest.approx(1)
    assert float(spin_echo_signal(one, one, one, tr=1e6, te=0.0, kappa=2.0)) == pytest.approx(0, abs=1e-6)
    t1 = torch.tensor(0.9, dtype=torch.float64)
    assert float(spin_echo_signal(t1, t1, t1, tr=0.6, te=0.0)) == pytest.approx(0.9 * (1 - math.exp(-0.6 / 0.9)))


def test_spin_echo_steady_state_equals_stepping():
    t1, tr, kappa = 0.9, 0.6, 0.8
    mz = 1.0
    for _ in range(200):  # excitation leaves Mz cos(a), the refocusing pulse turns it over, TR passes
        mz = 1 + (-mz * math.cos(math.radians(90 * kappa)) - 1) * math.exp(-tr / t1)
    wanted = mz * math.sin(math.radians(90 * kappa))
    one = torch.tensor(1.0, dtype=torch.float64)
    found = float(spin_echo_signal(one * t1, one, one, tr=tr, te=0.0, kappa=kappa))
    assert found == pytest.approx(wanted, rel=1e-9)


# GM/WM and CSF/WM of the protocols with an inversion efficiency of 0.96: Trio, Sonata, BioGraph, Vida, Vision, Prisma,
# MR750, HAIL's Siemens, and a plain gradient echo
CONTRASTS = {
    "oasis_trio": (0.66, 0.18),
    "oasis_sonata": (0.78, 0.29),
    "oasis_biograph": (0.66, 0.19),
    "oasis_vida": (0.66, 0.19),
    "oasis_vision": (0.69, 0.19),
    "onharmony_pri": (0.57, 0.09),
    "onharmony_gem": (0.76, 0.32),
    "hail_b": (0.71, 0.26),
    "hail_c": (0.89, 0.50),
}


@pytest.mark.parametrize("scanner", CONTRASTS)
def test_contrast_table(scanner):
    found = contrast(scanner)
    assert found["GM/WM"] == pytest.approx(CONTRASTS[scanner][0], abs=0.02)
    assert found["CSF/WM"] == pytest.approx(CONTRASTS[scanner][1], abs=0.02)


@pytest.mark.parametrize("scanner", PRESETS)
def test_every_preset_has_a_possible_protocol_and_names_its_source(scanner):
    assert all(value > 0 for value in contrast(scanner).values())
    assert len(PRESETS[scanner].source) > 10


def test_signal_is_differentiable_and_broadcasts():
    c = tissue_constants(3.0)
    kappa = torch.linspace(0.8, 1.2, 5, requires_grad=True)
    signal = mprage_signal(
        c.t1[:, None], c.t2star[:, None], c.pd[:, None], tr=2.4, ti=1.0, te=0.00316, flip=8, n_shots=176,
        echo_spacing=0.007, kappa=kappa,
    )  # fmt: skip
    assert signal.shape == (4, 5)
    signal.sum().backward()
    assert bool((kappa.grad != 0).all())


def test_impossible_timing_and_field_are_refused():
    with pytest.raises(ValueError, match="176 shots .* before"):
        mprage_magnetization(torch.tensor(1.0), tr=2.4, ti=0.3, flip=8, n_shots=176, echo_spacing=0.007)
    with pytest.raises(ValueError, match=r"found 7 T, wanted one of \[1.5, 3.0\]"):
        tissue_constants(7)
