"""What a person and a scan cost; the template is prepared before the clock starts."""

import pytest
import torch

from harmony_lite.simulate import scan, simulate_person
from harmony_lite.simulate.template import template


@pytest.mark.parametrize("spacing", [2.0, 1.2])
def test_person_and_scan(benchmark, spacing):
    template()

    def person_and_scan():
        person = simulate_person(60, torch.Generator().manual_seed(0), spacing=spacing)
        return scan(person, "oasis_trio", torch.Generator().manual_seed(1))

    benchmark.pedantic(person_and_scan, rounds=5 if spacing == 2.0 else 3, warmup_rounds=1)
