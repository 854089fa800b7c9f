"""MISPEL's experiment: its people, its rows, its controls, and expectations judged."""

import pytest
import torch

from harmony_lite import ledger
from harmony_lite.papers.mispel import experiment as mispel
from harmony_lite.papers.published import load
from harmony_lite.profiles import QUICK
from harmony_lite.splits import people, travelling_people

ROWS = ledger.results("mispel", "quick")["rows"]


def test_the_travelling_people_are_as_many_and_as_old_as_the_papers():
    training, validation, test = travelling_people(mispel.PEOPLE_ON, QUICK)
    assert len(test) == 18 and len(training) == QUICK.train_subjects and len(validation) == QUICK.validation_subjects
    everybody = [*training.subjects, *validation.subjects, *test.subjects]
    assert len(everybody) == len(set(everybody))
    ages = torch.cat([group.ages for group in (training, validation, test)])
    assert float(ages.min()) >= 51 and float(ages.max()) <= 78 and float(test.ages.std()) > 4
    usual = people(mispel.PEOPLE_ON, QUICK)[0]
    order = [torch.argsort(group.ages).tolist() for group in (usual, training)]
    assert order[0] == order[1]  # the same people at another age


def test_a_blur_looks_inside_the_mask_only():
    mask = torch.zeros(1, 1, 16, 16, 16, dtype=torch.bool)
    mask[..., 4:12, 4:12, 4:12] = True
    level = 3.0 * mask
    assert torch.allclose(mispel.blurred(level, mask, 1.0), level, atol=1e-5)
    noisy = level + torch.randn(level.shape, generator=torch.Generator().manual_seed(0)) * mask
    spreads = [float(mispel.blurred(noisy, mask, sigma)[mask].std()) for sigma in (0.3, 0.6, 1.2)]
    assert float(noisy[mask].std()) > spreads[0] > spreads[1] > spreads[2]
    assert bool((mispel.blurred(noisy + 100 * ~mask, mask, 1.0)[~mask] == 0).all())
    assert torch.allclose(mispel.blurred(noisy + 100 * ~mask, mask, 1.0), mispel.blurred(noisy, mask, 1.0), atol=1e-5)


def test_the_controls_are_as_similar_as_what_they_are_held_against():
    """Chosen on validation people, measured on others: equal to some thousandths."""
    for blur, row in (("RAW blurred as MISPEL", "MISPEL"), ("RAW blurred as ours", "mispel (ours)")):
        both = [mispel.measured_rows(ROWS, "Table 2 | ssim", name).mean() for name in (blur, row)]
        assert both[0] == pytest.approx(both[1], abs=0.003), (blur, both)


def test_histogram_matching_brings_people_to_one_volume():
    """Differences between scanners fall, and so do those between people, whatever the anatomy."""
    both = ("histogram-matching (volume)", "RAW")
    for tissue, share in (("CSF", 0.75), ("GM", 0.2), ("WM", 0.4)):
        matched, raw = (mispel.measured_rows(ROWS, f"Table 3 | volume difference {tissue}", row).mean() for row in both)
        assert matched < share * raw
    shares = {}
    for row in both:
        volumes = [mispel.measured_rows(ROWS, f"Figure 3 | volume {tissue}", row) for tissue in ("CSF", "GM", "WM")]
        shares[row] = (volumes[1] / sum(volumes)).std()
    assert shares[both[0]] < 0.5 * shares[both[1]]


def test_every_expectation_has_a_verdict():
    expected = [claim for claim in load("mispel").claims if claim.ours]
    findings = ledger.results("mispel", "quick")["claims"]
    assert len(expected) == 19 and {claim.id for claim in expected} <= set(findings)
    ssim = [mispel.measured_rows(ROWS, "Table 2 | ssim", row) for row in ("MISPEL", "RAW")]
    finding = findings["printed-above-raw"]
    assert finding["mean"] == pytest.approx((ssim[0] - ssim[1]).mean()) and finding["people"] == len(ssim[0]) == 18
    with pytest.raises(KeyError, match="Table 2 | ssim | none"):
        mispel.measured_rows(ROWS, "Table 2 | ssim", "none")
