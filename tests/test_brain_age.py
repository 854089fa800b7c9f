"""Age from volumes: the closed form of leave-one-out against refits, and people whose age is known."""

import pytest
import torch

from harmony_lite.cohort import Cohort
from harmony_lite.tasks.brain_age import AgeFromVolumes, leave_one_out_errors, shares_of_brain


def drawn(people=12, kinds=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shares = torch.rand(people, kinds, generator=generator, dtype=torch.float64)
    ages = 50 + 30 * (shares[:, 0] - 0.5) + torch.randn(people, generator=generator, dtype=torch.float64)
    return shares / shares.sum(1, keepdim=True), ages


@pytest.mark.parametrize("penalty", [0.1, 1.0, 30.0])
def test_leave_one_out_equals_refits(penalty):
    shares, ages = drawn()
    features, years = shares - shares.mean(0), ages - ages.mean()
    found = leave_one_out_errors(features, years, penalty)
    for left_out in range(len(ages)):
        kept = [i for i in range(len(ages)) if i != left_out]
        x, y = features[kept], years[kept]
        centred, centre = x - x.mean(0), x.mean(0)
        weights = torch.linalg.solve(centred.T @ centred + penalty * torch.eye(4).double(), centred.T @ (y - y.mean()))
        wanted = years[left_out] - ((features[left_out] - centre) @ weights + y.mean())
        assert found[left_out].item() == pytest.approx(wanted.item(), abs=1e-9)


def test_shares_sum_to_one_and_do_not_know_the_size_of_the_head():
    labels = torch.randint(0, 4, (2, 1, 4, 4, 4), generator=torch.Generator().manual_seed(0))
    shares = shares_of_brain(labels, 3)
    assert torch.allclose(shares.sum(1), torch.ones(2).double())
    larger = labels.repeat(1, 1, 2, 1, 1)
    assert torch.allclose(shares_of_brain(larger, 3), shares)


def test_ages_of_simulated_people_are_told_from_their_true_volumes():
    cohort = Cohort.simulate(20, ["oasis_trio"], spacing=4.0, seed=5)
    shares = shares_of_brain(cohort.labels, 14)
    model = AgeFromVolumes().fit(shares[:14], cohort.ages[:14])
    errors = (model.predict(shares[14:]) - cohort.ages[14:]).abs()
    mean_alone = (cohort.ages[:14].mean() - cohort.ages[14:]).abs()
    assert errors.mean() < 0.7 * mean_alone.mean()
    assert "14 target scans" in model.name


def test_state_round_trip():
    shares, ages = drawn()
    model = AgeFromVolumes().fit(shares, ages)
    again = AgeFromVolumes().load_state(model.state())
    assert torch.equal(again.predict(shares), model.predict(shares)) and again.name == model.name
    with pytest.raises(ValueError, match="state: found"):
        AgeFromVolumes().load_state({"weights": ages})


@pytest.mark.parametrize(
    ("shares", "ages", "message"),
    [
        (torch.rand(2, 3), torch.rand(2), "of 3 or more"),
        (torch.rand(5, 3), torch.rand(4), "wanted \\(N, K\\) and \\(N,\\)"),
        (torch.full((5, 3), torch.nan), torch.rand(5), "NaN or infinite"),
    ],
)
def test_what_cannot_be_fitted_is_refused(shares, ages, message):
    with pytest.raises(ValueError, match=message):
        AgeFromVolumes().fit(shares, ages)


def test_other_input_is_refused():
    with pytest.raises(ValueError, match="found no fit"):
        AgeFromVolumes().predict(torch.rand(2, 3))
    with pytest.raises(ValueError, match="wanted \\(N, 4\\)"):
        AgeFromVolumes().fit(*drawn()).predict(torch.rand(2, 3))
    with pytest.raises(ValueError, match="wanted integers"):
        shares_of_brain(torch.rand(1, 1, 2, 2, 2), 3)
    with pytest.raises(ValueError, match="found 0 to 5, wanted 0 to 3"):
        shares_of_brain(torch.tensor([0, 5]).reshape(1, 1, 1, 1, 2), 3)
    with pytest.raises(ValueError, match="a scan without a label"):
        shares_of_brain(torch.zeros(1, 1, 2, 2, 2, dtype=torch.long), 3)
