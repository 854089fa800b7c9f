"""Verdicts from values per person: each rule against cases worked by hand."""

from dataclasses import replace

import pytest
import torch

from harmony_lite.ledger.verdicts import judge
from harmony_lite.papers.printed import Cell, Claim, Measure, named_cell

PSNR, IOU = Measure("psnr", "dB", "higher"), Measure("iou", "1", "higher")


def generator():
    return torch.Generator().manual_seed(0)


def cell(row, condition="A", measure=PSNR):
    return Cell("Table 1", measure, row, condition, 1.0, "1.0")


def claim(cells, against=(), rule="better than", direction="higher", **more):
    return Claim("id", "section 1", "a sentence", rule, direction, tuple(cells), tuple(against), **more)


def values(**rows):
    """Cells "row_condition" to people's values."""
    return {cell(*name.split("_")).name: people for name, people in rows.items()}


HIGH, MIDDLE, LOW, LOOSE = [3.0, 3.2, 2.8, 3.1], [2.0, 2.1, 1.9, 2.2], [1.0, 1.1, 0.9, 1.2], [2.0, 1.0, 4.0, 3.0]


@pytest.mark.parametrize(
    ("better", "worse", "direction", "verdict"),
    [
        (HIGH, LOW, "higher", "holds here"),
        (HIGH, LOW, "lower", "contradicted here"),
        (LOW, HIGH, "lower", "holds here"),
        ([1.0, 2.0, 3.0, 4.0], LOOSE, "higher", "undecided"),
    ],
)
def test_the_interval_decides(better, worse, direction, verdict):
    one = claim([cell("X")], [cell("Y")], direction=direction)
    found = judge(one, values(X_A=better, Y_A=worse), generator=generator())
    assert found.verdict == verdict and found.people == 4
    assert (found.low > 0) == (verdict == "holds here")


def test_many_comparisons_of_equals_seldom_contradict():
    """At 95 % each, 24 comparisons of noise would contradict in four runs of ten."""
    draw, contradicted = torch.Generator().manual_seed(1), 0
    conditions = [str(number) for number in range(24)]
    many = claim([cell("X", c) for c in conditions], [cell("Y", c) for c in conditions])
    for _ in range(12):
        noise = {cell(row, c).name: torch.randn(16, generator=draw).tolist() for row in "XY" for c in conditions}
        contradicted += judge(many, noise, generator=generator()).verdict == "contradicted here"
    assert contradicted <= 3


def test_every_comparison_has_to_hold_and_one_can_contradict():
    both = claim([cell("X", "A"), cell("X", "B")], [cell("Y", "A"), cell("Y", "B")])
    found = judge(both, values(X_A=HIGH, Y_A=LOW, X_B=MIDDLE, Y_B=LOW), generator=generator())
    assert (found.verdict, found.comparisons, found.held, found.people) == ("holds here", 2, 2, 4)
    found = judge(both, values(X_A=HIGH, Y_A=LOW, X_B=LOW, Y_B=MIDDLE), generator=generator())
    assert (found.verdict, found.held) == ("contradicted here", 1)
    assert found.weakest == "Table 1 | psnr | X | B against Y, B" and found.high < 0
    found = judge(both, values(X_A=HIGH, Y_A=LOW, X_B=LOOSE, Y_B=MIDDLE), generator=generator())
    assert (found.verdict, found.held) == ("undecided", 1)


def test_cells_meet_only_rivals_of_their_condition_and_measure():
    one = claim([cell("X", "A")], [cell("Y", "A"), cell("Y", "B"), cell("Y", "A", IOU)])
    found = judge(one, values(X_A=MIDDLE, Y_A=LOW, Y_B=HIGH) | {cell("Y", "A", IOU).name: HIGH}, generator=generator())
    assert (found.verdict, found.comparisons) == ("holds here", 1)


def test_what_is_not_measured_has_no_verdict():
    assert judge(claim([cell("X")], [cell("Y")]), values(X_A=HIGH), generator=generator()) is None
    assert judge(claim([], figures=("Figure 1",)), values(X_A=HIGH), generator=generator()) is None


def test_a_claim_on_a_figure_is_judged_by_the_measured_cells_that_its_patterns_name():
    pattern, rival = (named_cell(f"Figure 6 | dice | {row} | *", "a claim") for row in ("X", "Y"))
    pictured = claim([pattern], [rival], figures=("Figure 6",))
    measured = {f"Figure 6 | dice | {row} | {c}": v for row, v in (("X", HIGH), ("Y", LOW)) for c in ("A", "B")}
    found = judge(pictured, measured, generator=generator())
    assert (found.verdict, found.comparisons) == ("holds here", 2)
    assert judge(pictured, {n: v for n, v in measured.items() if " Y " not in n}, generator=generator()) is None
    assert pictured.borne_out() is None  # a figure prints no number that could say so


def test_means_over_conditions():
    mean = claim([cell("X", "A"), cell("X", "B")], [cell("Y", "A"), cell("Y", "B")], over="mean")
    found = judge(mean, values(X_A=HIGH, X_B=LOW, Y_A=MIDDLE, Y_B=LOW), generator=generator())
    assert (found.verdict, found.comparisons) == ("holds here", 1)
    assert found.mean == pytest.approx((sum(HIGH) - sum(MIDDLE)) / 8)


def test_a_count_of_cells():
    cells, rivals = [cell("X", c) for c in "ABC"], [cell("Y", c) for c in "ABC"]
    measured = values(X_A=HIGH, X_B=HIGH, X_C=LOW, Y_A=LOW, Y_B=LOW, Y_C=HIGH)
    found = judge(claim(cells, rivals, over="count", count=2), measured, generator=generator())
    assert (found.verdict, found.mean, found.held) == ("holds here", 2, 2)
    assert (
        judge(claim(cells, rivals, over="count", count=3), measured, generator=generator()).verdict
        == "contradicted here"
    )


@pytest.mark.parametrize(("limit", "verdict"), [(2.0, "holds here"), (0.5, "contradicted here"), (1.0, "undecided")])
def test_within_a_limit(limit, verdict):
    near = claim([cell("X")], [cell("Y")], rule="within", direction="either", limit=limit)
    found = judge(near, values(X_A=[2.0, 2.2, 1.8, 2.1], Y_A=[1.0, 1.0, 1.0, 1.0]), generator=generator())
    assert found.verdict == verdict and found.mean == pytest.approx(1.025)


def test_within_without_a_rival_is_a_bound_on_the_value():
    bound = claim([cell("X")], rule="within", direction="either", limit=4.0)
    assert judge(bound, values(X_A=HIGH), generator=generator()).verdict == "holds here"


def test_no_worse_than_holds_for_equals():
    equal = claim([cell("X")], [cell("Y")], rule="no worse than")
    assert judge(equal, values(X_A=HIGH, Y_A=HIGH), generator=generator()).verdict == "holds here"
    assert judge(equal, values(X_A=LOW, Y_A=HIGH), generator=generator()).verdict == "contradicted here"


def test_monotone_in_the_order_of_rows():
    rising = claim([cell("X"), cell("Y"), cell("Z")], rule="monotone in")
    assert judge(rising, values(X_A=LOW, Y_A=MIDDLE, Z_A=HIGH), generator=generator()).verdict == "holds here"
    found = judge(rising, values(X_A=LOW, Y_A=HIGH, Z_A=MIDDLE), generator=generator())
    assert (found.verdict, found.comparisons) == ("contradicted here", 2)


def test_a_gain_over_a_baseline():
    gains = claim([cell("X")], [cell("Y")], direction="lower", baseline=(cell("P"), cell("Q")))
    found = judge(gains, values(X_A=HIGH, P_A=MIDDLE, Y_A=HIGH, Q_A=LOW), generator=generator())
    assert found.verdict == "holds here" and found.mean == pytest.approx(1.0, abs=0.05)


def test_people_have_to_be_the_same_everywhere():
    with pytest.raises(ValueError, match="different numbers of people"):
        judge(claim([cell("X")], [cell("Y")]), values(X_A=HIGH, Y_A=HIGH[:3]), generator=generator())


@pytest.mark.parametrize("side", ["X", "Y"])
def test_a_decision_on_weights_that_had_not_converged_is_put_off_with_its_numbers(side):
    one = claim([cell("X")], [cell("Y")])
    brief = {cell(side).name}
    for better, worse, otherwise in ((HIGH, LOW, "holds here"), (LOW, HIGH, "contradicted here")):
        usual = judge(one, values(X_A=better, Y_A=worse), generator=generator())
        found = judge(one, values(X_A=better, Y_A=worse), generator=generator(), too_brief=brief)
        assert (usual.verdict, found.verdict) == (otherwise, "training too short here")
        assert replace(found, verdict=usual.verdict) == usual
    open_still = judge(one, values(X_A=[1.0, 2.0, 3.0, 4.0], Y_A=LOOSE), generator=generator(), too_brief=brief)
    assert open_still.verdict == "undecided"
    elsewhere = judge(one, values(X_A=HIGH, Y_A=LOW), generator=generator(), too_brief={cell("Z").name})
    assert elsewhere.verdict == "holds here"
