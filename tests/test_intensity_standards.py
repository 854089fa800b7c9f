"""Nyul and White Stripe: the package's own numbers, the target's units, order and background, what they refuse."""

from functools import partial

import numpy as np
import phantoms
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from intensity_normalization import NyulNormalizer, WhiteStripeNormalizer, create_image

from harmony_lite.cohort import Scans, TargetOnly
from harmony_lite.images.intensity_maps import MAPS
from harmony_lite.images.normalize import full_range_minmax
from harmony_lite.methods.classical.nyul import Nyul
from harmony_lite.methods.classical.white_stripe import WhiteStripe, WhiteStripeSettings

people = partial(phantoms.people, **phantoms.MOSTLY_WHITE)
target_view = partial(phantoms.target_view, **phantoms.MOSTLY_WHITE)


@pytest.fixture(params=[Nyul, WhiteStripe])
def method(request):
    return request.param()


def test_order_of_intensities_is_kept_inside_and_outside_the_mask(method):
    """A brain mask on a whole head: what is around goes through the same rising curve."""
    images, inside = people(1)
    brain = inside & (images > 350) & (images < 960)
    harmonized = method.fit(target_view()).harmonize(images, mask=brain)
    order = images.flatten().argsort()
    order = order[images.flatten()[order] != 0]
    assert bool((images.flatten()[order].diff() >= 0).all())
    assert bool((harmonized.flatten()[order].diff() >= 0).all())
    assert len(harmonized[inside & ~brain].unique()) > 50, "what is outside is not flattened"
    assert not bool(harmonized[images == 0].any())


def test_nyul_is_the_packages_inside_the_mask():
    view, (images, inside) = target_view(), people()
    harmonized = Nyul().fit(view).harmonize(images, mask=inside)
    targets = [(i[0].numpy(), m[0].numpy()) for i, m in zip(view.target.images, view.target.mask, strict=True)]
    low, high = np.mean([np.percentile(image[mask], [1, 99]) for image, mask in targets], axis=0)
    theirs = NyulNormalizer(output_min_value=low, output_max_value=high)
    theirs.fit_population([create_image(i) for i, _ in targets], [create_image(m) for _, m in targets])
    for image, mask, ours in zip(images, inside, harmonized, strict=True):
        wanted = theirs.transform(create_image(image[0].numpy()), create_image(mask[0].numpy())).get_data()
        np.testing.assert_allclose(ours[mask].numpy(), wanted[mask[0].numpy()], rtol=1e-5, atol=1e-3)
        assert wanted[~mask[0].numpy()].max() < -1, "the package alone carries the background below 0"


def test_nyul_brings_every_landmark_to_the_standard():
    images, inside = people()
    method = Nyul().fit(target_view())
    harmonized = method.harmonize(images, mask=inside)
    landmarks = [1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99]
    np.testing.assert_array_equal(method.settings.percentiles, landmarks)
    for image, mask in zip(harmonized, inside, strict=True):
        np.testing.assert_allclose(
            np.percentile(image[mask].numpy(), landmarks), method.state()["standard"].numpy(), rtol=2e-3
        )
    assert harmonized[inside].max() > method.state()["standard"][-1], "nothing is clipped"


def test_nyul_undoes_a_curve_that_a_straight_line_cannot():
    """White stripe, one straight line, puts the white matter right and leaves a gamma's bend elsewhere."""
    images, inside = people(1)
    view = TargetOnly(Scans(images, inside))
    bent = MAPS["gamma1.5"](full_range_minmax(images))

    def error(method):
        return float((method.fit(view).harmonize(bent, mask=inside) - images)[inside].abs().mean())

    assert error(Nyul()) < 12 < error(WhiteStripe())


def test_white_stripe_is_the_packages_in_the_targets_units():
    view, (images, inside) = target_view(), people()
    harmonized = WhiteStripe().fit(view).harmonize(images, mask=inside)

    def stripe(image, mask):
        return WhiteStripeNormalizer(width=0.05).fit(create_image(image[0].numpy()), create_image(mask[0].numpy()))

    targets = [stripe(i, m) for i, m in zip(view.target.images, view.target.mask, strict=True)]
    mean, deviation = np.mean([t.mean for t in targets]), np.mean([t.std for t in targets])
    for image, mask, ours in zip(images, inside, harmonized, strict=True):
        own = stripe(image, mask)
        z_score = own.transform(create_image(image[0].numpy())).get_data()
        wanted = (z_score * deviation + mean)[mask[0].numpy()]
        np.testing.assert_allclose(ours[mask].numpy(), wanted, rtol=1e-4, atol=1e-2)
        # and the stripe found again in the result is the target's
        again = stripe(ours, mask)
        assert again.mean == pytest.approx(mean, rel=0.01) and again.std == pytest.approx(deviation, rel=0.1)


def test_a_wider_stripe_is_another_stripe():
    view, (images, inside) = target_view(), people(1)
    narrow, wide = (WhiteStripe(WhiteStripeSettings(width)).fit(view) for width in (0.02, 0.1))
    assert float(narrow.state()["standard"][1]) < 0.5 * float(wide.state()["standard"][1])
    assert not torch.allclose(narrow.harmonize(images, mask=inside), wide.harmonize(images, mask=inside))


@settings(max_examples=10, deadline=None)
@given(gain=st.floats(0.05, 20), offset=st.floats(-100, 1000))
@pytest.mark.parametrize("cls", [Nyul, WhiteStripe])
def test_gain_and_offset_of_the_source_do_not_matter(cls, gain, offset):
    images, inside = people(1, size=(16, 18, 14))
    method = cls().fit(target_view())
    wanted = method.harmonize(images, mask=inside)
    moved = method.harmonize(torch.where(inside, gain * images + offset, 0.0), mask=inside)
    assert float((moved - wanted)[inside].abs().mean()) < 2e-3 * float(wanted[inside].mean())


def test_slices_are_images_of_their_own(method):
    images, inside = people(1)
    slices, masks = images[0, :, :, :, 11:15].movedim(-1, 0), inside[0, :, :, :, 11:15].movedim(-1, 0)
    harmonized = method.fit(target_view()).harmonize(slices, mask=masks)
    assert harmonized.shape == slices.shape
    torch.testing.assert_close(method.harmonize(slices[2:3], mask=masks[2:3]), harmonized[2:3])


def test_a_standard_of_another_length_is_refused(method):
    with pytest.raises(ValueError, match=r"found a standard of shape \(7,\), wanted"):
        method.load_state({"standard": torch.zeros(7)})


def test_an_image_of_few_grey_levels_is_refused_and_not_turned_into_nan():
    """Contrast enough for the protocol, and yet the package would divide by zero: it gives NaN or a riddle."""
    images, inside = people(1)
    nearly = torch.where(inside, 5.0, 0.0)
    nearly[0, 0, 14, 15, 13] = 6.0
    for method, message in (
        (Nyul(), "image 0: found the percentiles 1 and 10 inside the mask both at 5, wanted them apart"),
        (WhiteStripe(), "image 0: found no white stripe inside the mask"),
    ):
        with pytest.raises(ValueError, match=message) as raised:
            method.fit(target_view()).harmonize(nearly, mask=inside)
        assert "\n" not in str(raised.value)
        with pytest.raises(ValueError, match="target scans: person 0: found"):
            method.fit(TargetOnly(Scans(nearly, inside)))
