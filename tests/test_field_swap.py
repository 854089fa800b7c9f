"""Field swap: the source's shading off, the target's on, beside the histogram matching that it contains."""

import phantoms
import pytest
import torch

from harmony_lite.cohort import Scans, TargetOnly
from harmony_lite.evaluate import metrics
from harmony_lite.methods.classical.field_swap import FieldSwap, mean_field
from harmony_lite.methods.classical.matching import HistogramMatching

AXES = phantoms.axes_of(phantoms.SIZE)
OF_TARGET = (0.25 * AXES[0] - 0.15 * AXES[1]).exp()
OF_SOURCE = (-0.35 * AXES[0] + 0.3 * AXES[2]).exp()


def scene(count, seed, field, gamma=1.0):
    images, mask = phantoms.people(count, seed, slope=0.0)
    return images.pow(gamma) * field * mask, mask


@pytest.fixture(scope="module")
def view():
    return TargetOnly(Scans(*scene(4, 9, OF_TARGET)))


@pytest.fixture(scope="module")
def fitted(view):
    return FieldSwap().fit(view)


def test_it_brings_tone_and_shading_where_a_curve_brings_the_tone_alone(fitted, view):
    source, mask = scene(2, 1, OF_SOURCE, gamma=0.7)
    wanted, _ = scene(2, 1, OF_TARGET)
    found = {
        "field swap": fitted.harmonize(source, mask=mask),
        "a curve": HistogramMatching().fit(view).harmonize(source, mask=mask),
    }
    psnr = {name: metrics.psnr(images * mask, wanted, mask) for name, images in found.items()}
    assert bool((psnr["field swap"] > psnr["a curve"] + 3).all()), psnr


def test_targets_that_differ_in_shading_get_fields_that_differ_by_it(fitted):
    """N4 takes a part of the phantom's shells for shading, on either target alike."""
    even = FieldSwap().fit(TargetOnly(Scans(*scene(4, 9, torch.ones(phantoms.SIZE)))))
    inside = phantoms.people(1)[1][0, 0]
    apart = (fitted.field / even.field / OF_TARGET)[inside].log()
    assert float(OF_TARGET[inside].log().std()) > 0.1 and float(apart.std()) < 0.02


def test_the_mean_field_is_geometric_and_0_where_nobody_has_brain():
    corrected = torch.full((2, 1, 2, 2, 2), 10.0)
    images = corrected * torch.tensor([1.0, 4.0]).reshape(2, 1, 1, 1, 1)
    mask = torch.ones_like(images, dtype=torch.bool)
    mask[:, :, 0, 0, 0] = False
    mask[1, :, 1, 1, 1] = False
    field = mean_field(images, corrected, mask)
    assert field[0, 0, 0] == 0 and field[1, 1, 1] == pytest.approx(1.0) and field[0, 1, 1] == pytest.approx(2.0)
