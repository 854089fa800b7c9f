"""What the experiments share: slices in [0, 1], measured heights, lesion contrast."""

import numpy as np
import pytest
import torch

from harmony_lite.evaluate.contrast import lesion_contrast
from harmony_lite.evaluate.measuring import Compared, at_heights, measured_in_slices


def ball(size=24, radius=10):
    line = torch.arange(size) - size / 2 + 0.5
    return ((line[:, None, None] ** 2 + line[:, None] ** 2 + line**2) < radius**2)[None, None]


def texture(mask, seed=0):
    values = 0.5 + 0.4 * torch.rand(mask.shape, generator=torch.Generator().manual_seed(seed))
    return values * mask


def test_the_measured_heights_are_the_middles_of_equal_parts():
    mask = ball()  # heights 2 to 21
    kept = at_heights(mask, 5)[0, 0].flatten(0, 1).any(0).nonzero().flatten().tolist()
    assert kept == [4, 8, 12, 16, 20]
    assert bool((at_heights(mask, 5) <= mask).all())


def test_a_gain_of_each_slice_costs_nothing_and_a_scale_of_ones_own_is_believed():
    mask = ball()
    target = texture(mask)
    gains = torch.linspace(1, 7, 24)
    found = measured_in_slices(Compared("gain", target * gains), target, mask, ("psnr", "ssim"), 5)
    assert found["psnr"] > 100 and found["ssim"] == pytest.approx(1, abs=1e-5)
    tops = (target * gains).amax((0, 1, 2, 3))
    scaled = Compared("own scale", target * gains, tops=tops)
    assert measured_in_slices(scaled, target, mask, ("psnr",), 5)["psnr"] > 100
    half = Compared("half of it", target * gains, tops=2 * tops)
    top = (target / target.amax((2, 3), keepdim=True).clamp_min(1e-9))[0, 0]
    wanted = [
        -10 * torch.log10((top[..., k][mask[0, 0, ..., k]] / 2).square().mean()).item() for k in (4, 8, 12, 16, 20)
    ]
    assert measured_in_slices(half, target, mask, ("psnr",), 5)["psnr"] == pytest.approx(np.mean(wanted), abs=1e-3)


def test_what_lies_outside_the_mask_does_not_count():
    mask = ball()
    target = texture(mask)
    noisy = target + 0.5 * ~mask
    assert measured_in_slices(Compared("skull", noisy), target, mask, ("psnr",), 5)["psnr"] > 100


def test_lesion_contrast_of_a_planted_lesion():
    mask = ball(40, 18)
    image = torch.where(ball(40, 12), 10.0, 2.0) * mask + 0.01 * texture(mask)  # white in the middle, grey around
    lesions = torch.zeros_like(mask)
    lesions[..., 18:22, 18:22, 18:22] = True
    image[lesions] = 4.0
    spread = image[mask].std()
    found = lesion_contrast(image, mask, lesions, np.eye(4))
    assert found == pytest.approx(float((10 + 0.01 * 0.7 - 4) / spread), rel=1e-2)
    assert lesion_contrast(3 * image + 5, mask, lesions, np.eye(4)) == pytest.approx(found, rel=1e-4)
    with pytest.raises(ValueError, match="lesions: found no voxel inside the mask"):
        lesion_contrast(image, mask, ~mask & lesions, np.eye(4))
