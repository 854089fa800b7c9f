"""BlindHarmonyDiff's two tasks: a U-Net for tissues and a network that tells age, both trained on the target only."""

from dataclasses import replace

import pytest
import torch

from harmony_lite.cohort import Cohort
from harmony_lite.nets.volume_norm import VolumeNorm
from harmony_lite.tasks.age_network import AgeCNN, AgeNetwork, AgeSettings
from harmony_lite.tasks.tissue_unet import TissueSettings, TissueUNet

TISSUES = TissueSettings(width=6, learning_rate=1e-2, training_steps=80, batch=6, validation_share=0.34)
AGES = AgeSettings(4, 3, 1, "adam", 1e-2, training_steps=60, batch=4, validation_share=0.25)


@pytest.fixture(scope="module")
def cohort():
    return Cohort.simulate(4, ["oasis_trio", "oasis_vision"], spacing=5.0, seed=3)


@pytest.fixture(scope="module")
def tissue(cohort):
    return TissueUNet(TISSUES).fit(cohort.scans("oasis_trio"), cohort.mask, cohort.largest_tissue, progress=False)


@pytest.fixture(scope="module")
def phantoms():
    """Sixteen balls that shrink with age, their rim darker than their middle."""
    ages = torch.linspace(20, 80, 16)[torch.randperm(16, generator=torch.Generator().manual_seed(0))]
    axes = torch.meshgrid(*[torch.linspace(-1, 1, 16)] * 3, indexing="ij")
    distance = torch.stack(axes).norm(dim=0)
    mask = (distance < 0.95).expand(16, 1, -1, -1, -1).clone()
    noise = 5 * torch.randn(mask.shape, generator=torch.Generator().manual_seed(1))
    images = torch.where(distance < (0.9 - ages / 150)[:, None, None, None, None], 300.0, 150.0) + noise
    return images * mask, mask, ages


def test_tissues_are_found_where_they_are(tissue, cohort):
    found = tissue.segment(cohort.scans("oasis_trio"), cohort.mask)
    assert (
        found.dtype == torch.uint8
        and not found[~cohort.mask].any()
        and {0, 2, 3} <= set(found.unique().tolist()) <= {0, 1, 2, 3}
    )
    inside = cohort.largest_tissue > 0
    assert float((found == cohort.largest_tissue)[inside].float().mean()) > 0.7


def test_gain_and_offset_do_not_matter_to_it(tissue, cohort):
    scan, mask = cohort.scans("oasis_trio")[:1], cohort.mask[:1]
    assert float((tissue.segment(scan, mask) != tissue.segment(7 * scan + 3, mask)).float().mean()) < 1e-3


def test_weights_come_back(tissue, cohort, phantoms):
    again = TissueUNet(TISSUES).load_state(tissue.state())
    scan, mask = cohort.scans("oasis_trio")[:1], cohort.mask[:1]
    assert torch.equal(again.segment(scan, mask), tissue.segment(scan, mask))
    images, mask, ages = phantoms
    short = replace(AGES, training_steps=4)
    age = AgeNetwork(short).fit(images, mask, ages, progress=False)
    assert torch.equal(AgeNetwork(short).load_state(age.state()).predict(images, mask), age.predict(images, mask))
    with pytest.raises(ValueError, match="found no grid"):
        AgeNetwork(short).load_state({name: value for name, value in age.state().items() if name != "grid"})


def test_the_age_network_is_as_the_supplement_says():
    settings = AgeSettings()
    network = AgeCNN((144, 208, 96), settings)
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv3d)]
    assert [c.out_channels for c in convolutions] == [8, 8, 16, 16, 32, 32, 64, 64, 128, 128]
    assert sum(isinstance(m, torch.nn.BatchNorm3d) for m in network.modules()) == 5
    assert network.last.in_features == 128 * 4 * 6 * 3 and network.last.out_features == 1
    assert (settings.optimizer, settings.learning_rate) == ("sgd", 1e-4)


def test_volumes_are_normalized_right_in_both_memory_orders():
    """In channels last, `torch.nn.BatchNorm3d` was seen to miss the mean of a million voxels by 1e-3 deviations."""
    bright = 3 + 0.01 * torch.randn(8, 4, 48, 56, 48, generator=torch.Generator().manual_seed(0))
    mean, variance = bright.double().mean((0, 2, 3, 4)), bright.double().var((0, 2, 3, 4))
    for order in (torch.contiguous_format, torch.channels_last_3d):
        norm = VolumeNorm(4, momentum=1.0)
        normalized = norm(bright.contiguous(memory_format=order))
        assert normalized.is_contiguous(memory_format=order)
        off = (norm.running_mean.double() - mean).abs() / variance.sqrt()
        assert float(off.max()) < 5e-5
        assert torch.allclose(norm.running_var.double(), variance, rtol=1e-5)
        norm.eval()
        assert torch.allclose(norm(bright.contiguous(memory_format=order)), normalized, atol=1e-3)


def test_age_is_learned_and_shuffled_ages_are_not(phantoms):
    images, mask, ages = phantoms
    errors = []
    for years in (ages, ages[torch.randperm(16, generator=torch.Generator().manual_seed(5))]):
        model = AgeNetwork(AGES).fit(images[:12], mask[:12], years[:12], progress=False)
        errors.append(float((model.predict(images[12:], mask[12:]) - ages[12:]).abs().mean()))
    assert errors[0] < 8 and errors[0] < 0.6 * errors[1]


def test_bad_input_is_named(phantoms, tissue):
    images, mask, ages = phantoms
    with pytest.raises(ValueError, match="one for each scan"):
        AgeNetwork(AGES).fit(images, mask, ages[:3])
    with pytest.raises(ValueError, match="one for each scan"):
        AgeNetwork(AGES).fit(images, mask, ages * torch.nan)
    with pytest.raises(ValueError, match="can be halved 5 times"):
        AgeNetwork(replace(AGES, blocks=5)).fit(images, mask, ages)
    with pytest.raises(ValueError, match="wanted `fit` or the shipped weights"):
        AgeNetwork(AGES).predict(images, mask)
    model = AgeNetwork(replace(AGES, training_steps=2)).fit(images, mask, ages, progress=False)
    with pytest.raises(ValueError, match="that of the fit"):
        model.predict(images[..., :8], mask[..., :8])
    with pytest.raises(ValueError, match="wanted torch.bool"):
        tissue.segment(images, mask.float())


def test_two_people_are_enough_for_the_age_network(phantoms):
    """One to learn from and one held out: there is no deviation of ages then."""
    images, mask, ages = (part[:2] for part in phantoms)
    assert AgeNetwork(AGES).fit(images, mask, ages, steps=2, progress=False).history.losses[-1] < 100
