"""Tissue segmentation: against the simulated truth, with both classifiers' names kept apart."""

import sys
import textwrap

import numpy as np
import pytest
import torch

from harmony_lite.cohort import Cohort
from harmony_lite.tasks.tissue import CLASSES, Settings, segment_tissues, volumes_ml

SPACING = 2.0
SCANNER = "oasis_trio"
# Dice of CSF, GM, WM, mean of two people; the 16 test people of that profile have 0.776, 0.805 and 0.893 with it
WITH_MISREGISTRATION = (0.72, 0.81, 0.88)
WITHOUT_MISREGISTRATION = (0.75, 0.85, 0.90)


@pytest.fixture(scope="module")
def cohort():
    """The first two people of the quick profile."""
    return Cohort.simulate(2, [SCANNER], SPACING, seed=0)


@pytest.fixture(scope="module")
def segmented(cohort):
    return segment_tissues(cohort.scans(SCANNER), cohort.mask, spacing=SPACING, classifier="dipy")


def dice(first, second):
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def dice_of_largest_fraction(found, cohort):
    """Dice of CSF, GM and WM of the labels against the largest true fraction: mean over people, (3,)."""
    truth = (cohort.tissues.argmax(1, keepdim=True) + 1) * cohort.mask
    people = [[dice(f == k, t == k) for k in (1, 2, 3)] for f, t in zip(found.labels, truth, strict=True)]
    return np.mean(people, axis=0)


def test_labels_against_the_truth(cohort, segmented):
    found = dice_of_largest_fraction(segmented, cohort)
    assert (found >= WITH_MISREGISTRATION).all(), found


def test_labels_against_the_truth_without_misregistration(cohort):
    """The same sessions, whose scans lie exactly on the truth."""
    still = Cohort.simulate(2, [SCANNER], SPACING, seed=0, misregistration=0.0)
    images = still.scans(SCANNER)
    moved = cohort.scans(SCANNER)
    assert not torch.equal(images, moved) and np.corrcoef(images.flatten(), moved.flatten())[0, 1] > 0.98
    found = dice_of_largest_fraction(segment_tissues(images, cohort.mask, spacing=SPACING, classifier="dipy"), cohort)
    assert (found >= WITHOUT_MISREGISTRATION).all(), found


def test_mispels_threshold_is_not_usable_for_csf(cohort, segmented):
    """Posterior over 0.8 against true fraction over 0.8: CSF far behind the other two, its volume far too large."""
    above, truth = segmented.above(0.8), cohort.tissues > 0.8
    csf, gm, wm = np.mean([[dice(a[k], t[k]) for k in range(3)] for a, t in zip(above, truth, strict=True)], axis=0)
    assert csf < 0.65 < 0.7 < gm < wm
    true_ml = truth.flatten(2).sum(2).double().numpy() * SPACING**3 / 1000
    ratio = volumes_ml(segmented, SPACING, threshold=0.8)[list(CLASSES)].to_numpy().mean(0) / true_ml.mean(0)
    assert ratio[0] > 1.5 and (np.abs(ratio[1:] - 1) < 0.35).all(), ratio


def test_what_comes_out(cohort, segmented):
    labels, posteriors, mask = segmented.labels, segmented.posteriors, cohort.mask
    assert labels.shape == mask.shape and labels.dtype == torch.uint8 and posteriors.dtype == torch.float32
    assert posteriors.shape == cohort.tissues.shape
    assert torch.equal(labels > 0, mask) and not bool((posteriors * ~mask).any())
    total = posteriors.sum(1, keepdim=True)[mask]
    assert float((total - 1).abs().max()) < 1e-5 and float(posteriors.min()) >= 0
    assert torch.equal(posteriors.argmax(1, keepdim=True)[mask] + 1, labels[mask].long())
    image = cohort.scans(SCANNER)[:1]
    csf, gm, wm = (float(image[labels[:1] == k].mean()) for k in (1, 2, 3))
    assert csf < gm < wm


def test_volumes_name_their_classifier(cohort, segmented):
    table = volumes_ml(segmented, SPACING)
    assert list(table.columns) == ["CSF", "GM", "WM", "classifier"] and len(table) == 2
    assert set(table.classifier) == {segmented.classifier} and segmented.classifier.startswith("DIPY 1.")
    brain_ml = cohort.mask.flatten(1).sum(1).numpy() * 8 / 1000
    np.testing.assert_allclose(table[["CSF", "GM", "WM"]].sum(axis=1), brain_ml)
    for tissue in ("GM", "WM"):  # CSF is what the classifier gets wrong
        np.testing.assert_allclose(table[tissue], cohort.volumes_ml[tissue], rtol=0.3)
    thick = volumes_ml(segmented, (2.0, 2.0, 4.0))
    np.testing.assert_allclose(thick["GM"], 2 * table["GM"])


def small(seed=0):
    """A ball of three shells, dark outside to bright inside, and its mask."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.meshgrid(*[torch.linspace(-1, 1, 24)] * 3, indexing="ij")
    radius = sum(axis**2 for axis in axes).sqrt()[None, None]
    tissue = torch.where(radius < 0.5, 900.0, torch.where(radius < 0.75, 600.0, 200.0))
    mask = radius < 0.95
    return (tissue + 30 * torch.randn(tissue.shape, generator=generator)) * mask, mask, radius


def test_three_shells_are_found_in_any_units_and_the_same_each_time():
    image, mask, radius = small()
    found = segment_tissues(image, mask, spacing=1.0, classifier="dipy")
    truth = torch.where(radius < 0.5, 3, torch.where(radius < 0.75, 2, 1)) * mask
    assert float((found.labels == truth)[mask].float().mean()) > 0.99
    again = segment_tissues(image, mask, spacing=1.0, classifier="dipy")
    assert torch.equal(again.posteriors, found.posteriors)
    scaled = segment_tissues(image / 4000, mask, spacing=1.0, classifier="dipy")
    assert torch.equal(scaled.labels, found.labels)
    without_mask = segment_tissues(image, spacing=1.0, classifier="dipy")
    assert torch.equal(without_mask.labels, found.labels)


def test_one_bright_voxel_changes_nothing():
    """The classifier scales by the maximum: without the clipping a vessel would move every class."""
    image, mask, _ = small()
    bright = image.clone()
    bright[0, 0, 12, 12, 12] = 50_000
    found = segment_tissues(bright, mask, spacing=1.0, classifier="dipy").labels
    wanted = segment_tissues(image, mask, spacing=1.0, classifier="dipy").labels
    assert float((found == wanted)[mask].float().mean()) > 0.998
    with pytest.warns(RuntimeWarning), pytest.raises(ValueError, match="found a class without a voxel"):
        segment_tissues(bright, mask, spacing=1.0, classifier="dipy", settings=Settings(percentile=100.0))


def test_dark_voxels_inside_the_mask_are_csf():
    image, mask, radius = small()
    dark = torch.where(radius > 0.9, 0.0, image)
    labels = segment_tissues(dark, mask, spacing=1.0, classifier="dipy").labels
    assert bool((labels[mask & (radius > 0.9)] == 1).all())


FAKE_FAST = """\
    #!{python}
    import sys
    import nibabel as nib
    import numpy as np

    assert sys.argv[1:6] == ["-t", "1", "-n", "3", "-p"], sys.argv
    image = nib.load(sys.argv[-1])
    assert np.allclose(image.header.get_zooms(), [1, 1.5, 2]), image.header.get_zooms()
    values = image.get_fdata()
    limits = np.array([0.0, 0.4, 0.8, 2.0])
    for index in range(3):
        inside = (values > limits[index]) & (values <= limits[index + 1])
        path = sys.argv[sys.argv.index("-o") + 1] + "_prob_" + str(index) + ".nii.gz"
        nib.save(nib.Nifti1Image(inside.astype(np.float32), image.affine), path)
"""


@pytest.fixture
def on_path(tmp_path, monkeypatch):
    """Puts a program called `fast` on the PATH."""

    def put(source):
        program = tmp_path / "fast"
        program.write_text(textwrap.dedent(source).replace("{python}", sys.executable))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    return put


def test_fast_is_taken_where_it_is_on_the_path(on_path):
    """A stand-in that thresholds: what is tested is the way there and back, not FSL."""
    image, mask, radius = small()
    on_path(FAKE_FAST)
    found = segment_tissues(image, mask, spacing=(1.0, 1.5, 2.0))
    assert found.classifier == "FSL FAST"
    truth = torch.where(radius < 0.5, 3, torch.where(radius < 0.75, 2, 1)) * mask
    assert float((found.labels == truth)[mask].float().mean()) > 0.95
    assert segment_tissues(image, mask, spacing=1.0, classifier="dipy").classifier.startswith("DIPY")


def test_fast_that_fails_says_why(on_path):
    image, mask, _ = small()
    on_path("#!/bin/sh\necho 'no licence' >&2\nexit 3\n")
    with pytest.raises(ValueError, match=r"fast: found exit status 3 \(no licence\), wanted three maps"):
        segment_tissues(image, mask, spacing=1.0, classifier="fast")


def test_refusals(monkeypatch):
    image, mask, _ = small()
    monkeypatch.setenv("PATH", "")
    assert segment_tissues(image, mask, spacing=1.0).classifier.startswith("DIPY")
    with pytest.raises(FileNotFoundError, match="fast: found no such program on the PATH"):
        segment_tissues(image, mask, spacing=1.0, classifier="fast")
    for arguments, message in (
        ({"classifier": "spm"}, "classifier: found 'spm', wanted auto, dipy or fast"),
        ({"spacing": 0}, "spacing: found 0, wanted one positive number"),
        ({"images": image[0]}, "images: found shape"),
        ({"images": image / 0}, "NaN or infinite"),
        ({"images": torch.full_like(image, 3.0)}, "image 0 constant at 3 inside its mask"),
        ({"images": -1 - image}, "image 0 not above 0 inside its mask"),
        ({"mask": mask[..., 1:]}, "mask: found torch.bool"),
        ({"mask": mask.float()}, "mask: found torch.float32"),
        ({"mask": torch.zeros_like(mask)}, "mask: found no voxel inside for image 0"),
    ):
        with pytest.raises(ValueError, match=message):
            segment_tissues(**({"images": image, "mask": mask, "spacing": 1.0} | arguments))
    with pytest.raises(ValueError, match="threshold: found 1.5, wanted between 0 and 1"):
        volumes_ml(segment_tissues(image, mask, spacing=1.0), 1.0, threshold=1.5)
