"""The judge of Harmonizing Flows: fifteen labels in coronal slices, its entropy, and the comparators that change it."""

from dataclasses import replace

import phantoms
import pytest
import torch

from harmony_lite.papers.harmonizing_flows.augmentation import GUIDING, augmented
from harmony_lite.simulate import LABELS
from harmony_lite.tasks.structures import StructureSettings, StructureUNet

SMALL = StructureSettings(width=4, training_steps=80, batch=4, learning_rate=1e-2, validation_share=0.34)


def heavy(slices, generator):
    return augmented(slices, GUIDING, generator)


@pytest.fixture(scope="module")
def scene():
    """Three phantom people, their brains, and three labels: by how bright a voxel is."""
    images, mask = phantoms.people(3, seed=5)
    labels = torch.where(images > 800, 4, torch.where(images > 450, 3, 13)) * mask
    return images, mask, labels.to(torch.uint8)


@pytest.fixture(scope="module")
def trained(scene):
    return StructureUNet(SMALL).fit(*scene, progress=False)


def agreement(found, truth, mask):
    return float((found == truth)[mask].float().mean())


def test_it_learns_what_it_is_shown(trained, scene):
    images, mask = phantoms.people(2, seed=6)
    truth = (torch.where(images > 800, 4, torch.where(images > 450, 3, 13)) * mask).to(torch.uint8)
    found = trained.segment(images, mask)
    assert found.dtype == torch.uint8 and found.shape == images.shape and not found[~mask].any()
    assert agreement(found, truth, mask) > 0.8
    assert agreement(trained.segment(scene[0], scene[1]), scene[2], scene[1]) > 0.8


def test_probabilities_add_up_and_entropy_is_that_of_them(trained, scene):
    image, mask = scene[0][:1], scene[1][:1]
    found = trained.probabilities(image, mask)
    assert found.shape == (len(LABELS), *image.shape[2:])
    assert torch.allclose(found.sum(0), torch.ones(image.shape[2:]), atol=1e-5)
    assert bool((found[0][~mask[0, 0]] == 1).all())
    by_hand = -(found * found.clamp_min(1e-30).log()).sum(0)[mask[0, 0]].mean()
    assert trained.entropy(image, mask) == pytest.approx(float(by_hand), rel=1e-4)
    with pytest.raises(ValueError, match="image: found 3 volumes, wanted one"):
        trained.probabilities(*scene[:2])


def test_weights_come_back(trained, scene):
    again = StructureUNet(SMALL).load_state(trained.state())
    assert torch.equal(again.segment(*scene[:2]), trained.segment(*scene[:2]))
    with pytest.raises(ValueError, match="found a network of another form"):
        StructureUNet(StructureSettings(width=3)).load_state(trained.state())
    with pytest.raises(ValueError, match="found no network"):
        StructureUNet(SMALL).segment(*scene[:2])


def test_tent_lowers_the_entropy_and_leaves_the_first_network(trained, scene):
    images, mask, _ = scene
    dim = 255 * (images / images.amax()).pow(1.8)  # another scanner's tone
    before = {name: value.clone() for name, value in trained.state().items()}
    first = trained.sharpened(dim, mask, steps=1, learning_rate=0.0)
    moved = trained.sharpened(dim, mask, steps=30, learning_rate=5e-3)
    assert moved.entropy(dim, mask) < first.entropy(dim, mask)
    assert all(torch.equal(value, before[name]) for name, value in trained.state().items())


def test_averaging_over_changed_copies_of_nothing_changed_is_the_prediction(trained, scene):
    images, mask, _ = scene
    same = trained.averaged(images, mask, lambda slices, _: slices, times=2)
    assert torch.equal(same, trained.segment(images, mask))
    assert trained.averaged(images, mask, heavy, times=3).shape == images.shape


def test_heavy_augmentation_changes_what_it_is_trained_on(scene):
    plain = StructureUNet(SMALL).fit(*scene, progress=False, steps=3)
    big = StructureUNet(SMALL, heavy).fit(*scene, progress=False, steps=3)
    assert plain.history.losses != big.history.losses


def test_missing_or_unknown_labels_are_refused(scene):
    images, mask, labels = scene
    for wrong, message in (
        (torch.zeros_like(labels), "labels: found no structure inside the mask, wanted labels from 1 to 14"),
        (labels + 20, "labels: found torch.uint8 from 20 to 33, wanted whole numbers from 0 to 14"),
        (labels.float(), "labels: found torch.float32 from 0 to 13, wanted whole numbers from 0 to 14"),
    ):
        with pytest.raises(ValueError, match=message):
            StructureUNet(SMALL).fit(images, mask, wrong, progress=False)


def test_rare_structures_count_more(scene):
    """A voxel counts 1 on average, and a label of a hundredth of the voxels ten times as much as one of all."""
    images, mask, labels = scene
    rare = StructureUNet(replace(SMALL, rarity=0.5)).fit(images, mask, labels, progress=False, steps=1)
    plain = StructureUNet(SMALL).fit(images, mask, labels, progress=False, steps=1)
    shares = torch.bincount(labels.flatten().long(), minlength=len(LABELS)) / labels.numel()
    assert float((rare._importance * shares)[shares > 0].sum()) == pytest.approx(
        1, abs=0.05
    )  # absent labels take the rest
    assert torch.allclose(plain._importance, torch.ones(len(LABELS)), atol=1e-4)
    few, many = (label for label in (4, 0))
    ratio = float(rare._importance[few] / rare._importance[many])
    assert ratio == pytest.approx(float((shares[many] / shares[few]) ** 0.5), rel=1e-3)
