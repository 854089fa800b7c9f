"""A scan at its own resolution: the alignment, the local line, and what comes back to the scan's own voxels."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from harmony_lite.cohort import Cohort, Needs
from harmony_lite.methods import Harmonizer
from harmony_lite.methods.own_grid import smooth_change as own_grid
from harmony_lite.methods.own_grid.alignment import align, overlap
from harmony_lite.methods.own_grid.alignment import sampled as resampled
from harmony_lite.methods.own_grid.smooth_change import harmonize_on_own_grid, is_model_grid, local_line, model_grid

VOXELS = (1.3, 0.9, 1.1)  # mm, finer than the model's and of three sizes


class Made(Harmonizer):
    """A method whose change is known: `change(before, mask)` on the model's grid."""

    name: ClassVar[str] = "made"
    needs: ClassVar[Needs] = Needs.TARGET_ONLY
    variants: ClassVar[tuple[str, ...]] = ("one",)
    on_template_grid: ClassVar[bool] = True

    def __init__(self, change):
        self.change = change

    @classmethod
    def from_variant(cls, variant):
        raise NotImplementedError

    fit = state = load_state = None  # nothing is learned here

    is_fitted = True

    def _harmonize(self, images, mask, scanner):
        assert is_model_grid(images, model_grid()[1]) and mask.shape == images.shape
        return (self.change(images) * mask).float()


@pytest.fixture(scope="module")
def person():
    """One simulated scan on the model's grid: values, affine, brain."""
    cohort = Cohort.simulate(1, ["oasis_trio"], 2.0, seed=5)
    return cohort.scans("oasis_trio")[0, 0].numpy(), cohort.affine(), cohort.mask[0, 0].numpy()


@pytest.fixture(scope="module")
def known():
    """Model's mm to the scan's mm: turned, shifted and larger."""
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", [9, -6, 14], degrees=True).as_matrix() * 1.06
    turn[:3, 3] = 18, -25, 12
    return turn


@pytest.fixture(scope="module")
def moved(person, known):
    """The same scan elsewhere on voxels of its own, with noise finer than the model's voxels: values, affine, brain."""
    values, grid, brain = person
    affine = np.diag([*VOXELS, 1.0])
    corners = np.array(np.meshgrid(*[(0, n) for n in values.shape])).reshape(3, -1).T
    points = corners @ (known @ grid)[:3, :3].T + (known @ grid)[:3, 3]
    affine[:3, 3] = points.min(0)
    shape = tuple(np.ceil(np.ptp(points, axis=0) / VOXELS).astype(int))
    to_model = np.linalg.inv(known @ grid) @ affine
    own, inside = resampled(values, grid, brain, to_model, shape)
    noise = np.random.default_rng(0).normal(0, 0.04 * values[brain].mean(), shape)
    return np.where(inside, own + noise, 0).astype(np.float32), affine, inside


@pytest.fixture(scope="module")
def placed(moved):
    return align(*moved)


@pytest.fixture
def aligned(monkeypatch, placed):
    """The alignment is found once for all tests of what follows from it."""
    monkeypatch.setattr(own_grid, "align", lambda *_: placed)


def harmonized(change, scan):
    values, affine, inside = scan
    volume, mask = (torch.from_numpy(array)[None, None] for array in (values, inside))
    result = harmonize_on_own_grid(Made(change), volume, affine, mask)
    assert result.shape == volume.shape and result.dtype == torch.float32
    assert not result[~mask].any()
    return result[0, 0].numpy()


def fine_part(values, inside):
    """What is finer than the model's voxels: the values minus their 2 mm blur inside the brain."""
    sigma = 2.0 / np.array(VOXELS)
    share = ndimage.gaussian_filter(inside.astype(float), sigma)
    return (values - ndimage.gaussian_filter(values * inside, sigma) / np.where(inside, share, 1))[inside]


# -------------------------------------------------------------------------------------------------------- alignment


def distances(found, wanted, person):
    values, grid, brain = person
    points = np.argwhere(brain)[::200] @ grid[:3, :3].T + grid[:3, 3]
    difference = found - wanted
    return np.linalg.norm(points @ difference[:3, :3].T + difference[:3, 3], axis=1)


def test_a_known_affine_is_found_again(person, known, moved, placed):
    still = align(*person)
    # a person's own size and shape are in both alignments; what differs is the known affine
    error = distances(placed, known @ still, person)
    assert error.mean() < 1.0 and error.max() < 2.0
    assert distances(np.eye(4), known, person).mean() > 20
    assert overlap(placed, *moved[1:]) > 0.93
    assert overlap(np.eye(4), *moved[1:]) < 0.8


def test_the_alignment_is_the_same_twice(moved, placed):
    np.testing.assert_array_equal(align(*moved), placed)


def test_what_is_no_brain_is_refused(moved):
    values, affine, inside = moved
    with pytest.raises(ValueError, match="found 0 ml inside, wanted a brain's 300 to 2100 ml"):
        align(values, affine, np.zeros_like(inside))
    with pytest.raises(ValueError, match=r"found \d+ ml inside, wanted .* needs a brain mask"):
        align(values, affine, np.ones_like(inside))
    with pytest.raises(ValueError, match="almost everywhere inside the mask, wanted contrast"):
        align(np.full_like(values, 7.0), affine, inside)
    bar = np.zeros(values.shape, bool)
    bar[:, 60:120, 60:100] = True  # 5 cm x 4 cm, right through
    with pytest.raises(ValueError, match="alignment: found .*, wanted .*whole brain"):
        align(values + 1, affine, bar)


def test_which_scan_lies_on_the_models_grid():
    shape, affine = model_grid()
    volume = torch.zeros(1, 1, *shape)
    assert is_model_grid(volume, affine) and not is_model_grid(volume[..., 1:], affine)
    near, far = affine.copy(), affine.copy()
    near[0, 3] += 5e-4
    far[0, 3] += 0.01
    assert is_model_grid(volume, near) and not is_model_grid(volume, far)


# ------------------------------------------------------------------------------------------------------ sampled there


def test_averaging_down_keeps_a_brains_level_up_to_its_rim(person):
    """A brain of one value stays one of that value: the background does not darken the rim."""
    _, grid, brain = person
    to_scan = np.diag([1.7, 1.7, 1.7, 1.0])
    found, inside = resampled(np.where(brain, 5.0, 900.0), grid, brain, to_scan, (47, 56, 47))
    np.testing.assert_allclose(found[inside], 5.0, rtol=1e-9)
    assert not found[~inside].any()
    assert inside.sum() * 1.7**3 == pytest.approx(brain.sum(), rel=0.01)


# ------------------------------------------------------------------------------------------------------ the local line


@pytest.fixture(scope="module")
def texture():
    rng = np.random.default_rng(1)
    mask = np.zeros((24, 26, 28), bool)
    mask[3:-3, 3:-3, 3:-3] = True
    return rng.normal(400, 90, mask.shape), mask


@pytest.mark.parametrize("width", [2.0, 6.0, 40.0])
@pytest.mark.parametrize("ridge", [0.0, 0.05, 1.0])
def test_an_exact_line_is_found_whatever_the_window(texture, width, ridge):
    before, mask = texture
    gain, offset = local_line(before, 3.5 * before - 700, mask, 2.0, width=width, ridge=ridge)
    np.testing.assert_allclose(gain, 3.5, rtol=1e-6)  # beyond the mask too
    np.testing.assert_allclose(offset, -700, rtol=1e-6)


def test_a_smooth_gain_is_followed_and_a_wide_window_misses_it(texture):
    before, mask = texture
    shading = 1 + 0.4 * np.linspace(-1, 1, mask.shape[0])[:, None, None] * np.ones(mask.shape)
    errors = {}
    for width in (4.0, 40.0):
        gain, offset = local_line(before, shading * before, mask, 2.0, width=width)
        errors[width] = np.abs(gain * before + offset - shading * before)[mask].mean() / before[mask].mean()
    assert errors[4.0] < 0.03 < 0.1 < errors[40.0]


def test_a_flat_place_takes_the_slope_of_the_whole(texture):
    before, mask = texture
    flat = np.zeros_like(mask)
    flat[3:-3, 3:-3, 3:15] = True
    rng = np.random.default_rng(2)
    before = np.where(flat, 400 + rng.normal(0, 1, mask.shape), before)
    after = 2 * before + rng.normal(0, 30, mask.shape)  # in the flat part that noise is all there is
    gains = {ridge: local_line(before, after, mask, 2.0, width=3.0, ridge=ridge)[0] for ridge in (0.0, 0.05)}
    deep = (slice(8, -8), slice(8, -8), slice(5, 9))
    assert np.abs(gains[0.0][deep] - 2).max() > 1 and np.abs(gains[0.05][deep] - 2).max() < 0.2


def test_an_input_without_contrast_is_refused(texture):
    before, mask = texture
    for values, inside in ((np.full_like(before, 3.0), mask), (before, np.zeros_like(mask))):
        with pytest.raises(ValueError, match="found .* voxels without contrast in the mask"):
            local_line(values, before, inside, 2.0)


# ------------------------------------------------------------------------------------------------ there and back again


@pytest.mark.usefixtures("aligned")
def test_a_line_is_that_line_on_the_scans_own_voxels(moved):
    values, _, inside = moved
    result = harmonized(lambda images: 2.5 * images - 300, moved)
    np.testing.assert_allclose(result[inside], 2.5 * values[inside] - 300, atol=1e-3 * np.ptp(values))


@pytest.mark.usefixtures("aligned")
def test_a_method_that_does_nothing_gives_the_scan_back(moved):
    values, _, _ = moved
    np.testing.assert_allclose(harmonized(lambda images: images, moved), values, rtol=1e-5, atol=1e-5 * values.max())


@pytest.mark.usefixtures("aligned")
def test_a_shading_follows_its_place_and_fine_detail_keeps_its_energy(moved, placed):
    """The gain is 1.6 in the middle, rising from left to right of the model's grid, wherever the scan lies."""
    values, affine, inside = moved
    shape, grid = model_grid()

    def gain_at(x):
        return 1.6 + 0.005 * x  # x in the model's mm

    rise = gain_at(torch.arange(shape[0]) * grid[0, 0] + grid[0, 3])[:, None, None]
    result = harmonized(lambda images: rise * images, moved)
    to_model = np.linalg.inv(placed) @ affine
    gain = gain_at(np.argwhere(inside) @ to_model[0, :3] + to_model[0, 3])
    assert np.ptp(gain) > 0.5
    error = result[inside] - gain * values[inside]
    assert np.sqrt(np.square(error).mean()) < 0.02 * values[inside].mean()
    energies = [np.square(fine_part(image, inside) / scale).mean() for image, scale in ((result, gain), (values, 1.0))]
    assert energies[0] == pytest.approx(energies[1], rel=0.05)


@pytest.mark.usefixtures("aligned")
def test_detail_that_the_method_wipes_out_is_still_there(moved):
    def blurred(images):
        return torch.from_numpy(ndimage.gaussian_filter(images.numpy(), (0, 0, 2, 2, 2)))

    values, affine, inside = moved
    result = harmonized(blurred, moved)
    kept = np.corrcoef(fine_part(result, inside), fine_part(values, inside))[0, 1]
    assert kept > 0.95
    # what replacing the voxels by the model's would have given
    grid_to_scan = np.linalg.inv(affine) @ own_grid.align() @ model_grid()[1]
    coarse, _ = resampled(values, affine, inside, grid_to_scan, model_grid()[0])
    replaced = ndimage.affine_transform(
        ndimage.gaussian_filter(coarse, 2), np.linalg.inv(grid_to_scan), output_shape=values.shape, order=1
    )
    assert np.corrcoef(fine_part(replaced, inside), fine_part(values, inside))[0, 1] < 0.8


@pytest.mark.usefixtures("aligned")
def test_slices_without_an_answer_follow_their_neighbours(moved):
    """Below the target's brains a method gives 0; there the line of the nearest slices goes on."""
    values, _, inside = moved

    def partly(images):
        result = 2 * images + 50
        result[..., :24] = 0
        return result

    result = harmonized(partly, moved)
    np.testing.assert_allclose(result[inside], 2 * values[inside] + 50, atol=1e-3 * np.ptp(values))
    with pytest.raises(ValueError, match="made: found no slice with a result"):
        harmonized(torch.zeros_like, moved)


@pytest.mark.usefixtures("aligned")
def test_the_same_scan_gives_the_same_result(moved):
    first, again = (harmonized(lambda images: images.clamp_min(0).sqrt(), moved) for _ in range(2))
    np.testing.assert_array_equal(first, again)
