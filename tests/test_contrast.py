"""What a blur cannot buy, on images that have a closed form; and a tone curve between two scanners."""

import numpy as np
import pytest
import torch

from harmony_lite.cohort import Cohort, Needs, Scans, SeveralScanners
from harmony_lite.evaluate.contrast import fine_noise, steps_between_slices, tissue_ratios
from harmony_lite.methods import load_method


def tissues(size=24):
    """Fluid, grey and white matter in three slabs, mixed in one plane between each two."""
    fractions = torch.zeros(1, 3, size, size, size)
    third = size // 3
    for which in range(3):
        fractions[0, which, which * third : (which + 1) * third] = 1
    for plane in (third, 2 * third):
        fractions[0, :, plane] = 0.5 * (fractions[0, :, plane - 1] + fractions[0, :, plane])
    return fractions


def picture(levels=(20.0, 60.0, 100.0)):
    return (tissues() * torch.tensor(levels)[:, None, None, None]).sum(1, keepdim=True)


def test_ratios_are_those_of_pure_voxels():
    assert tissue_ratios(picture(), tissues()) == pytest.approx({"CSF/WM": 0.2, "GM/WM": 0.6})
    assert tissue_ratios(7 * picture(), tissues()) == pytest.approx({"CSF/WM": 0.2, "GM/WM": 0.6})
    with pytest.raises(ValueError, match="found no voxel with 90% of CSF"):
        tissue_ratios(picture(), tissues() * torch.tensor([0.5, 1, 1])[:, None, None, None])


@pytest.mark.parametrize("sd", [0.5, 2.0, 5.0])
def test_fine_noise_is_the_deviation_of_white_noise(sd):
    image = picture() + sd * torch.randn(picture().shape, generator=torch.Generator().manual_seed(0))
    assert fine_noise(image, tissues()) == pytest.approx(sd, rel=0.04)  # per cent of 100
    shading = torch.linspace(0.8, 1.2, 24)  # smooth: next to nothing from one voxel to the next
    assert fine_noise(picture() * shading, tissues()) < 1e-3
    assert fine_noise(picture(), tissues()) == pytest.approx(0, abs=1e-6)


def test_without_deep_white_matter_there_is_no_noise_to_measure():
    with pytest.raises(ValueError, match="no voxel with white matter all around"):
        fine_noise(picture(), tissues() * torch.tensor([1, 1, 0.5])[:, None, None, None])


# -------------------------------------------------------------------------------------------------------- tone curves

SCANNERS = ("mispel_ge", "mispel_trio")


def bent(power):
    """One brain and the same under a power, without noise."""
    image = torch.rand(2, 1, 14, 14, 14, generator=torch.Generator().manual_seed(1)) + 0.5
    mask = torch.zeros_like(image, dtype=torch.bool)
    mask[..., 2:-2, 2:-2, 2:-2] = True
    scans = {"a": Scans(100 * image * mask, mask), "b": Scans(30 * image**power * mask, mask)}
    return SeveralScanners(scans)


def test_a_tone_curve_undoes_a_power():
    view = bent(0.5)
    method = load_method("tone-curve", fitted=False).fit(view)
    after = [method.harmonize(s.images, scanner=name, mask=s.mask) for name, s in view.scanners.items()]
    inside = view.scanners["a"].mask
    before = [s.images / s.images[inside].mean() for s in view.scanners.values()]
    apart, left = ((a - b)[inside].abs().mean() for a, b in ([v / v[inside].mean() for v in after], before))
    assert float(apart) < 0.15 * float(left)
    order = view.scanners["b"].images[0][inside[0]].argsort()
    assert float(after[1][0][inside[0]][order].diff().min()) >= 0  # a curve that rises moves no order


def test_a_tone_curve_goes_on_beyond_its_knots():
    view = bent(0.5)
    method, scans = load_method("tone-curve", fitted=False).fit(view), view.scanners["b"]
    brightest = scans.images == scans.images[scans.mask].max()
    usual, beyond = (
        method.harmonize(scans.images * torch.where(brightest, gain, 1.0), scanner="b", mask=scans.mask).max()
        for gain in (1.0, 1.5)
    )
    assert float(beyond) > float(usual)


def test_misregistration_can_be_set_and_changes_nothing_else():
    options = {"spacing": (5.0, 4.0, 5.0), "seed": 2}
    still, usual, far = (
        Cohort.simulate(1, SCANNERS, **options, misregistration=size).scans("mispel_ge") for size in (0.0, None, 1.0)
    )
    plain = Cohort.simulate(1, SCANNERS, **options).scans("mispel_ge")
    assert torch.equal(usual, plain)
    apart = [float((still - moved).abs().mean()) for moved in (usual, far)]
    assert 0 < apart[0] < apart[1]
    with pytest.raises(ValueError, match="misregistration: found -1, wanted 0 to 10 mm"):
        Cohort.simulate(1, SCANNERS, misregistration=-1.0)


def test_lesion_fractions_are_what_lesions_are_taken_of(tmp_path):
    cohort = Cohort.simulate(2, SCANNERS, spacing=(5.0, 4.0, 5.0), seed=2, ages=[75, 70])
    assert torch.equal(cohort.lesion_fractions > 0.5, cohort.lesions) and bool(cohort.lesions.any())
    cohort.to_files(tmp_path / "files")
    back = Cohort.from_files(tmp_path / "files")
    assert torch.equal(back.lesion_fractions, cohort.lesions.float())
    assert np.allclose(back.affine(0, "mispel_trio"), cohort.affine(0))
    assert len(cohort.view(Needs.SEVERAL_SCANNERS).scanners) == 2


def test_slices_that_jump_have_steps_between_them():
    smooth = torch.rand(1, 1, 8, 9, 10, generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(smooth).bool()
    assert steps_between_slices(smooth, mask) == pytest.approx(1, abs=0.1)
    jumping = smooth + torch.arange(10.0) % 2  # every other slice is brighter
    assert steps_between_slices(jumping, mask) > 2.5
    assert steps_between_slices(7 * jumping + 3, mask) == pytest.approx(steps_between_slices(jumping, mask), rel=1e-5)
    half = mask.clone()
    half[..., 5:] = False  # what lies outside does not count
    jumping[..., 5:] *= 100
    assert steps_between_slices(jumping, half) < 4
