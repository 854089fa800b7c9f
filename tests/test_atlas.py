"""The atlas classifier: its sum by hand, what it must not depend on, what it must, and the simulated truth."""

import math
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from harmony_lite.cohort import Cohort
from harmony_lite.tasks.atlas import RANGE, AtlasClassifier, AtlasSettings

SPACING = 4.0  # mm: a person takes half a second
TARGET, SOURCE = "oasis_trio", "oasis_vision"
STRUCTURES = range(1, 15)
# mean Dice of two held-out people at 4 mm with six to learn from: measured 0.798 and 0.710
TISSUES_AT_LEAST, STRUCTURES_AT_LEAST = 0.77, 0.67


def dice(found, truth, labels):
    """Mean over labels, one value per person: (N,)."""
    people = [[2 * ((f == k) & (t == k)).sum() / ((f == k).sum() + (t == k).sum()) for k in labels] for f, t in
              zip(found, truth, strict=True)]  # fmt: skip
    return torch.tensor(people).mean(1)


# ------------------------------------------------------------------------------------------------------- by hand

# A strip of fourteen voxels, the first and the last outside the mask. Four people: label 1 has value 0 in four voxels,
# label 2 has value 1 in four; the four between have value 0.5, and are label 1 in 3, 1, 3, 1 of the people.
VALUES = [0.0] * 4 + [0.5] * 4 + [1.0] * 4
BETWEEN = [(1, 2, 1, 2), (1, 2, 1, 2), (1, 2, 1, 2), (2, 1, 2, 1)]
BARE = {"prior_width_mm": 0.0, "bins": 4, "density_width": 0.0, "density_floor": 1e-3}


def strip(values, dtype=torch.float32):
    return torch.tensor([0, *values, 0], dtype=dtype).reshape(1, 1, 1, 1, -1)


MASK = strip([True] * 12, torch.bool)


def four_people():
    images = strip(VALUES).repeat(4, 1, 1, 1, 1)
    labels = torch.cat([strip([1] * 4 + list(between) + [2] * 4, torch.uint8) for between in BETWEEN])
    return images, MASK.repeat(4, 1, 1, 1, 1), labels


def fitted(**settings):
    return AtlasClassifier(AtlasSettings(**(BARE | settings))).fit(*four_people(), spacing=2.0)


def test_prior_and_densities_by_hand():
    state = fitted(prior_floor=0.1).state()
    prior, density = state["log_prior"].float().exp(), state["log_density"].exp()
    assert prior.shape == (3, 1, 1, 14) and density.shape == (3, 4)
    people = torch.tensor([4.0] * 4 + [3.0, 1.0, 3.0, 1.0] + [0.0] * 4)
    torch.testing.assert_close(prior[1, 0, 0, 1:-1], (people + 0.1 / 2) / 4.1, rtol=5e-3, atol=0)
    torch.testing.assert_close(prior.sum(0), torch.ones(1, 1, 14), rtol=0, atol=5e-3)
    assert not prior[0].any()  # no voxel inside the mask is 0, so nothing ever becomes 0
    assert prior[1:, 0, 0, 0].tolist() == pytest.approx([0.5, 0.5], rel=5e-3)  # beyond all brains: the labels' shares
    # 24 voxels of each label, 16 of them with their own value; bins of 0.5 from -0.5, so 0, 0.5, 1 are in 1, 2, 3
    mixed = [[0, 2 / 3, 1 / 3, 0], [0, 0, 1 / 3, 2 / 3]]
    wanted = torch.tensor(mixed) * (1 - 1e-3) + 1e-3 / 4
    torch.testing.assert_close(density[1:], wanted)


def test_argmax_by_hand():
    image = strip([0, 0.5, 0, 0, 0, 0, 0.5, 0.5, 1, 1, 1, 1])
    # 0.5 fits both labels and the prior decides; 0 and 1 fit one only, and the density decides against 1 to 3
    wanted = strip([1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2], torch.uint8)
    assert torch.equal(fitted().segment(image, MASK), wanted)


PRESENT = torch.tensor([1.0, 0, 1, 1]).reshape(4, 1, 1, 1, 1)  # the second scan is empty


@pytest.mark.parametrize(("floor", "label"), [(0.1, 2), (1e-3, 1)])
def test_prior_against_density(floor, label):
    """A voxel that was label 1 in all four people has the other label's value: the larger ratio wins."""
    in_favour_of_1 = math.log((4 + floor / 2) / (floor / 2))
    in_favour_of_2 = math.log((2 / 3 * 0.999 + 2.5e-4) / 2.5e-4)
    assert (in_favour_of_2 > in_favour_of_1) == (label == 2)
    image = strip([1.0, *VALUES[1:]])
    assert int(fitted(prior_floor=floor).segment(image, MASK)[0, 0, 0, 0, 1]) == label


def test_prior_is_smoothed_in_millimetres():
    """An impulse becomes a Gaussian of the width asked for, on each axis in that axis's voxels."""
    labels = torch.ones(1, 1, 25, 25, 25, dtype=torch.int64)
    labels[0, 0, 12, 12, 12] = 2
    image = labels.float() + torch.linspace(0, 0.1, labels.numel()).reshape(labels.shape)
    settings = AtlasSettings(prior_width_mm=4.0, prior_floor=1e-6)
    atlas = AtlasClassifier(settings).fit(image, torch.ones_like(image).bool(), labels, spacing=(2.0, 2.0, 4.0))
    prior = atlas.state()["log_prior"][2].float()
    for axis, size in enumerate((2.0, 2.0, 4.0)):
        step = [12, 12, 12]
        step[axis] += 2
        fall = float(prior[12, 12, 12] - prior[tuple(step)])
        assert fall == pytest.approx((2 * size) ** 2 / (2 * 4.0**2), abs=0.02)


def test_densities_are_smoothed_and_whatever_lies_beyond_their_range_counts_at_its_end():
    images, mask, labels = four_people()
    images = images.repeat(1, 1, 20, 10, 1)  # so that one voxel is less than one per cent
    mask, labels = (x.repeat(1, 1, 20, 10, 1) for x in (mask, labels))
    images[0, 0, 0, 0, 12], images[1, 0, 0, 0, 1] = 100.0, -100.0
    atlas = AtlasClassifier(AtlasSettings(density_width=2.0)).fit(images, mask, labels, spacing=2.0)
    density = atlas.state()["log_density"].exp()
    torch.testing.assert_close(density.sum(1), torch.ones(3))
    own = [int((value - RANGE[0]) / (RANGE[1] - RANGE[0]) * 128) for value in (0.0, 1.0)]
    assert density[1:].argmax(1).tolist() == own
    assert density[1, own[0] + 2] / density[1, own[0]] == pytest.approx(math.exp(-0.5), rel=0.02)  # one width away
    end = density.min()
    assert density[2, -1] > 1.5 * end and density[1, 0] > 1.5 * end
    assert density[1, -1] == pytest.approx(float(end)) and density[2, 0] == pytest.approx(float(end))


# --------------------------------------------------------------------------------------------------- what labels may be


def test_background_stays_0_and_what_lies_outside_the_mask_is_not_looked_at():
    images, mask, labels = four_people()
    labels = torch.where(mask, labels, torch.tensor(99, dtype=torch.uint8))
    atlas = AtlasClassifier(AtlasSettings(**BARE)).fit(images, mask, labels, spacing=2.0)
    for given in (images, torch.where(mask, images, torch.tensor(7.0))):
        found = atlas.segment(given, mask)
        assert found.dtype == torch.uint8 and found.shape == images.shape
        assert torch.equal(found, fitted().segment(images, mask)) and torch.equal(found > 0, mask)
    assert len(atlas.state()["log_prior"]) == 3


def test_without_a_mask_the_foreground_is_segmented():
    images, mask, labels = four_people()
    images = (images + 2) * mask
    images, mask, labels = (torch.nn.functional.pad(x, (0, 6)) for x in (images, mask, labels))
    atlas = AtlasClassifier(AtlasSettings(**BARE)).fit(images, mask, labels, spacing=2.0)
    assert torch.equal(atlas.segment(images), atlas.segment(images, mask))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_label_0_in_the_mask_is_a_class_and_one_that_nobody_has_is_never_chosen(dtype):
    images, mask, labels = four_people()
    renamed = torch.where(labels == 2, 40, 0).to(dtype)  # 1 becomes 0, and 1 to 39 stay empty
    found = AtlasClassifier(AtlasSettings(**BARE)).fit(images, mask, renamed, spacing=2.0).segment(images, mask)
    assert found.unique().tolist() == [0, 40]
    assert torch.equal(found == 40, fitted().segment(images, mask) == 2)


# ----------------------------------------------------------------------------------------------------- simulated people


@pytest.fixture(scope="module")
def people():
    """Six to learn from and two held out."""
    return Cohort.simulate(8, [TARGET, SOURCE], SPACING, seed=0).split(6, 2)


def tissue_of(cohort):
    return ((cohort.tissues.argmax(1, keepdim=True) + 1) * cohort.mask).to(torch.uint8)


@pytest.fixture(scope="module")
def tissues(people):
    train, _ = people
    return AtlasClassifier().fit(train.scans(TARGET), train.mask, tissue_of(train), spacing=SPACING)


@pytest.fixture(scope="module")
def structures(people):
    train, _ = people
    return AtlasClassifier().fit(train.scans(TARGET), train.mask, train.labels, spacing=SPACING)


def prior_alone(atlas):
    state = atlas.state()
    return AtlasClassifier().load_state(state | {"log_density": torch.zeros_like(state["log_density"])})


def test_tissues_of_held_out_people(people, tissues):
    _, held_out = people
    image, mask, truth = held_out.scans(TARGET), held_out.mask, tissue_of(held_out)
    found = dice(tissues.segment(image, mask), truth, range(1, 4))
    without = dice(prior_alone(tissues).segment(image, mask), truth, range(1, 4))
    assert float(found.mean()) > TISSUES_AT_LEAST, found
    assert (found > without + 0.1).all(), (found, without)


def test_structures_of_held_out_people(people, structures):
    _, held_out = people
    image, mask, truth = held_out.scans(TARGET), held_out.mask, held_out.labels
    segmented = structures.segment(image, mask)
    assert torch.equal(segmented > 0, mask)
    found = dice(segmented, truth, STRUCTURES)
    without = dice(prior_alone(structures).segment(image, mask), truth, STRUCTURES)
    assert float(found.mean()) > STRUCTURES_AT_LEAST, found
    assert (found > without + 0.04).all(), (found, without)


def test_gain_and_offset_change_nothing(people, structures):
    _, held_out = people
    image, mask = held_out.scans(TARGET), held_out.mask
    found = structures.segment(image, mask)
    assert torch.equal(structures.segment(4 * image, mask), found)
    moved = structures.segment(3.7 * image + 11, mask)
    assert float((moved == found)[mask].float().mean()) > 0.999  # round-off at the edges of bins


def test_contrast_changes_much(people, tissues, structures):
    """What it is for: another contrast and another scanner both lower Dice, for every person."""
    _, held_out = people
    image, mask = held_out.scans(TARGET), held_out.mask
    squared = (image / image.amax((1, 2, 3, 4), keepdim=True)) ** 2
    for atlas, truth, labels in (
        (tissues, tissue_of(held_out), range(1, 4)),
        (structures, held_out.labels, STRUCTURES),
    ):
        own = dice(atlas.segment(image, mask), truth, labels)
        assert (dice(atlas.segment(squared, mask), truth, labels) < own - 0.03).all()
        other = atlas.segment(held_out.scans(SOURCE), held_out.masks(SOURCE))
        assert (dice(other, truth, labels) < own - 0.02).all()


def test_state_goes_to_a_file_and_back(people, structures, tmp_path):
    _, held_out = people
    save_file(structures.state(), tmp_path / "atlas.safetensors")
    loaded = AtlasClassifier().load_state(load_file(tmp_path / "atlas.safetensors"))
    assert loaded.classifier == "atlas prior and intensity densities of 6 target scans" == structures.classifier
    image, mask = held_out.scans(TARGET), held_out.mask
    assert torch.equal(loaded.segment(image, mask), structures.segment(image, mask))
    again = loaded.state()
    assert all(torch.equal(value, again[name]) for name, value in structures.state().items())


# ------------------------------------------------------------------------------------------------------------ refusals


def refused(message):
    return pytest.raises(ValueError, match=re.escape(message))


def test_not_fitted():
    images, mask, _ = four_people()
    for use in (lambda a: a.segment(images, mask), lambda a: a.state(), lambda a: a.classifier):
        with refused("atlas: found one that is not fitted, wanted fit or load_state before"):
            use(AtlasClassifier())


IMAGES, MASKS, LABELS = four_people()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": IMAGES[0]}, "images: found shape (1, 1, 1, 14), wanted volumes (N, 1, D, H, W)"),
        ({"images": IMAGES.long()}, "images: found torch.int64, wanted floating point"),
        ({"images": IMAGES / 0}, "values that are NaN or infinite, wanted finite values"),
        (
            {"images": IMAGES * torch.tensor([1.0, 0, 1, 1]).reshape(4, 1, 1, 1, 1)},
            "found image 1 constant at 0 inside",
        ),
        (
            {"images": 1 - MASKS.float()},
            "images: found image 0 constant at 0 inside its mask",
        ),
        ({"mask": MASKS[:1]}, "mask: found torch.bool (1, 1, 1, 1, 14), wanted torch.bool (4, 1, 1, 1, 14)"),
        ({"mask": MASKS.float()}, "mask: found torch.float32"),
        ({"mask": torch.zeros_like(MASKS)}, "mask: found no voxel inside for image"),
        ({"labels": LABELS[..., 1:]}, "labels: found shape (4, 1, 1, 1, 13), wanted (4, 1, 1, 1, 14)"),
        ({"labels": LABELS.float()}, "labels: found torch.float32, wanted integers"),
        ({"labels": LABELS == 1}, "labels: found torch.bool, wanted integers"),
        ({"labels": LABELS.long() - 2}, "labels: found -1 to 0 inside the mask, wanted 0 to 255"),
        ({"labels": LABELS.long() + 255}, "labels: found 256 to 257 inside the mask, wanted 0 to 255"),
        ({"labels": LABELS.clamp(max=1)}, "labels: found only 1 inside the mask, wanted at least two labels"),
        ({"spacing": 0}, "spacing: found 0, wanted one positive number of mm or three"),
        ({"spacing": (2.0, -2.0, 2.0)}, "spacing: found (2.0, -2.0, 2.0), wanted one positive number of mm or three"),
    ],
)
def test_refused_in_fitting(arguments, message):
    with refused(message):
        AtlasClassifier().fit(**({"images": IMAGES, "mask": MASKS, "labels": LABELS, "spacing": 2.0} | arguments))


@pytest.mark.parametrize(
    ("images", "mask", "message"),
    [
        (IMAGES[..., 1:], MASKS[..., 1:], "images: found the grid (1, 1, 13), wanted the training scans' (1, 1, 14)"),
        (IMAGES[0], MASKS[0], "images: found shape (1, 1, 1, 14), wanted volumes (N, 1, D, H, W)"),
        (
            IMAGES.where(MASKS, torch.nan),
            MASKS,
            "images: found 8 values that are NaN or infinite, wanted finite values",
        ),
        (IMAGES, MASKS[..., 1:], "mask: found torch.bool (4, 1, 1, 1, 13), wanted torch.bool (4, 1, 1, 1, 14)"),
        (1 - MASKS.float(), MASKS, "images: found image 0 constant at 0 inside its mask"),
    ],
)
def test_refused_in_segmenting(images, mask, message):
    with refused(message):
        fitted().segment(images, mask)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prior_width_mm": -1.0}, "prior_width_mm: found -1, wanted 0 or more"),
        ({"density_width": math.nan}, "density_width: found nan, wanted 0 or more"),
        ({"prior_floor": 0.0}, "prior_floor: found 0, wanted above 0"),
        ({"density_floor": 1.0}, "density_floor: found 1, wanted between 0 and 1"),
        ({"bins": 1}, "bins: found 1, wanted a whole number of at least 2"),
    ],
)
def test_refused_settings(changes, message):
    with refused(message):
        AtlasSettings(**changes)


def test_refused_states():
    state = fitted().state()
    own = AtlasClassifier(AtlasSettings(**BARE))
    with refused("state: found ['log_prior'], wanted ['log_density', 'log_prior', 'scans', 'settings']"):
        own.load_state({"log_prior": state["log_prior"]})
    with refused("state: found the settings (0.0, 0.1, 4.0, 0.0, 0.001), wanted (1.5, 0.1, 128, 4.0, 0.001)"):
        AtlasClassifier().load_state(state)
    with refused("state: found log_prior (3, 1, 1, 14) and log_density (3, 3), wanted (K, D, H, W) and (K, 4)"):
        own.load_state(state | {"log_density": state["log_density"][:, 1:]})
