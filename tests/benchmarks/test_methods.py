"""What harmonizing one volume costs, beside scikit-image's own histogram matching of whole images."""

import pytest
import torch
from skimage.exposure import match_histograms

from harmony_lite.methods import load_method, method_class, names
from harmony_lite.simulate import scan, simulate_person


@pytest.fixture(scope="module")
def volume():
    person = simulate_person(60, torch.Generator().manual_seed(0))
    return scan(person, "oasis_vision", torch.Generator().manual_seed(1))[None], person.mask[None]


@pytest.mark.parametrize("name", [name for name in names() if method_class(name).shipping is not None])
def test_harmonize_one_volume(benchmark, volume, name):
    images, mask = volume
    method = load_method(name)
    scanner = method.scanners[0] if method.scanners else None
    benchmark(method.harmonize, images, scanner=scanner, mask=mask)


def test_scikit_image_on_the_whole_image(benchmark, volume):
    images, _ = volume
    benchmark(match_histograms, images[0, 0].numpy(), images[0, 0].numpy() ** 0.7)
