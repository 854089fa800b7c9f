"""The ledger: verdicts from intervals, rows from the papers' files, and nothing where nothing was computed."""

import json

import pytest
import torch

from harmony_lite import cli
from harmony_lite.evaluate import ledger
from harmony_lite.evaluate.published import PAPERS, load


def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    ("better", "worse", "direction", "verdict"),
    [
        ([3.0, 3.2, 2.8, 3.1], [1.0, 1.1, 0.9, 1.2], "higher", "holds here"),
        ([3.0, 3.2, 2.8, 3.1], [1.0, 1.1, 0.9, 1.2], "lower", "contradicted here"),
        ([1.0, 1.1, 0.9, 1.2], [3.0, 3.2, 2.8, 3.1], "lower", "holds here"),
        ([1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 4.0, 3.0], "higher", "undecided"),
    ],
)
def test_verdicts(better, worse, direction, verdict):
    found, gain = ledger.decide(better, worse, direction=direction, generator=generator())
    assert found == verdict and gain.people == 4
    assert (gain.low > 0) == (verdict == "holds here")


def test_an_unknown_direction_is_refused():
    with pytest.raises(ValueError, match="found 'up', wanted 'higher' or 'lower'"):
        ledger.decide([1.0, 2.0], [0.0, 1.0], direction="up", generator=generator())


def test_every_claim_has_a_row_and_none_a_verdict_without_a_result(tmp_path):
    found = ledger.rows("quick", tmp_path)
    assert len(found) == sum(len(load(paper).claims) for paper in PAPERS)
    assert {row.paper for row in found} == set(PAPERS)
    assert all(row.verdict is None and row.ours is None and row.reason == "not computed yet" for row in found)


def stored(folder, **entry):
    claim = load("blindharmony").claims[0].id
    content = {"claims": {claim: {"verdict": "holds here", "mean": 1.5, "people": 16, **entry}}}
    (folder / "blindharmony.quick.json").write_text(json.dumps(content))
    return claim


def test_a_result_gives_its_claim_a_verdict(tmp_path):
    claim = stored(tmp_path)
    row = next(row for row in ledger.rows("quick", tmp_path) if row.id == claim)
    assert row.verdict == "holds here" and row.ours == {"mean": 1.5, "people": 16} and row.reason == ""
    assert "1 with a verdict" in ledger.text(ledger.rows("quick", tmp_path))
    assert all(row.verdict is None for row in ledger.rows("full", tmp_path))


def test_results_that_do_not_fit_are_refused(tmp_path):
    stored(tmp_path, verdict="reproduced")
    with pytest.raises(ValueError, match="found the verdict 'reproduced', wanted one of"):
        ledger.rows("quick", tmp_path)
    (tmp_path / "blindharmony.quick.json").write_text('{"claims": {"made-up": {"verdict": "undecided"}}}')
    with pytest.raises(ValueError, match="found the claim 'made-up'"):
        ledger.rows("quick", tmp_path)
    (tmp_path / "blindharmony.quick.json").write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        ledger.rows("quick", tmp_path)


def test_the_command_line_prints_what_the_rows_say(capsys):
    assert cli.main(["ledger", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    keys = {"paper", "id", "place", "claim", "rule", "published", "ours", "profile", "verdict", "reason"}
    assert [entry["id"] for entry in printed] == [row.id for row in ledger.rows()]
    assert all(set(entry) == keys for entry in printed)
    assert cli.main(["ledger"]) == 0
    shown = capsys.readouterr().out
    assert all(f"{paper}: " in shown for paper in PAPERS)
