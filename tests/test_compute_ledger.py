"""`make ledger`: what is done is not done again, what other code did is not taken over, nothing is half written."""

import json
from dataclasses import replace

import compute_ledger
import pytest

from harmony_lite.evaluate import experiments, ledger
from harmony_lite.profiles import QUICK

MADE = {"commit": "c", "hardware": "h", "date": "2026-01-01"}
TWO = replace(QUICK, train_subjects=3, test_subjects=2)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(compute_ledger, "active", lambda: TWO)
    monkeypatch.setattr(compute_ledger, "work_folder", lambda paper="fitted": tmp_path / "work" / paper)
    monkeypatch.setattr(ledger, "RESULTS", tmp_path / "results")
    return tmp_path


def keep(paper, position, value, **more):
    path = compute_ledger.kept(paper, position)
    path.parent.mkdir(parents=True, exist_ok=True)
    one = {
        "place": "Table 1", "measure": "psnr", "row": "HM", "condition": "Exp", "tier": "i",
        "method": "histogram-matching", "variant": "slice", "by": "", "value": value, **more,
    }  # fmt: skip
    path.write_text(json.dumps({"person": f"sub-{position}", "made": MADE, "minutes": 0.5, "found": [one]}))


def test_everything_is_to_be_done_at_first(folder):
    rounds = dict(compute_ledger.steps(["blindharmony", "hail"]))
    assert len(rounds["people"]) == (3 + 2) + 2  # HAIL fits nothing: its training people are not needed
    assert len(rounds["test people"]) == 2 * 2
    fits = [one for one in experiments.fits("blindharmony") if not one.is_shipped]
    assert len(rounds["fits"]) == len({one.label for one in fits}) == 2  # ComBat, RAVEL


def test_what_is_done_is_left_out(folder):
    keep("hail", 0, 1.0)
    rounds = dict(compute_ledger.steps(["hail"]))
    assert [position for _, _, position in rounds["test people"]] == [1]
    keep("hail", 1, 1.0)
    assert not any(dict(compute_ledger.steps(["hail"])).values())


def test_two_papers_share_a_fit(folder, monkeypatch):
    fits = [experiments.Fit("atlas", kinds, ("oasis_trio",)) for kinds in ("tissues", "labels")]
    monkeypatch.setattr(experiments, "fits", lambda paper: fits if paper == "blindharmony" else fits[:1])
    rounds = dict(compute_ledger.steps(["blindharmonydiff", "blindharmony"]))
    taken = [experiments.fits(paper)[i].label for _, paper, i in rounds["fits"]]
    assert sorted(taken) == ["atlas.labels.oasis_trio", "atlas.tissues.oasis_trio"]


def test_results_hold_every_person_the_mean_and_the_weights(folder):
    keep("blindharmony", 0, 26.123456789)
    keep("blindharmony", 1, 27.0)
    path = compute_ledger.write("blindharmony", compute_ledger.assembled("blindharmony"))
    found = json.loads(path.read_text())
    (row,) = found["rows"]
    assert row["values"] == [26.1235, 27.0] and row["mean"] == pytest.approx(26.5617, abs=1e-3)
    assert found["made"]["people"] == ["sub-0", "sub-1"] and found["made"]["minutes of measuring"] == 1.0
    assert len(row["weights"]) == 64 and found["claims"] == {}
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_people_with_other_cells_are_refused(folder):
    keep("blindharmony", 0, 26.0)
    keep("blindharmony", 1, 27.0, condition="Log")
    with pytest.raises(ValueError, match="found other cells at this place for other people"):
        compute_ledger.assembled("blindharmony")


def test_changed_code_starts_anew(tmp_path, monkeypatch):
    package = tmp_path / "package"
    for name in ("methods/one.py", "tasks/two.py", "cohort.py", "cohort_sources.py", "weights.py", "papers/a.toml",
                 "papers/b.toml"):  # fmt: skip
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("x = 1\n")
    (package / "evaluate" / "experiments").mkdir(parents=True)
    evaluate = ("arguments", "contrast", "metrics", "published", "report")
    for name in (*evaluate, "experiments/fits", "experiments/measuring", "experiments/a", "experiments/b"):
        (package / "evaluate" / f"{name}.py").write_text("y = 1\n")
    monkeypatch.setattr(compute_ledger, "PACKAGE", package)
    before = {paper: compute_ledger.code_hash(paper) for paper in (None, "a", "b")}
    assert before == {paper: compute_ledger.code_hash(paper) for paper in (None, "a", "b")}
    (package / "evaluate" / "experiments" / "a.py").write_text("y = 2\n")  # one paper's experiment
    after = {paper: compute_ledger.code_hash(paper) for paper in (None, "a", "b")}
    assert after["a"] != before["a"] and after[None] == before[None] and after["b"] == before["b"]
    (package / "methods" / "one.py").write_text("x = 2\n")  # what all of them use
    assert all(compute_ledger.code_hash(paper) not in before.values() for paper in (None, "a", "b"))


def test_an_unknown_paper_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        compute_ledger.main(["dreams"])
    assert stop.value.code == 2 and "found 'dreams', wanted one of" in capsys.readouterr().err


def test_what_is_edited_while_it_runs_does_not_move_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(compute_ledger, "_FOLDERS", {})
    before = compute_ledger.work_folder("hail")
    monkeypatch.setattr(compute_ledger, "code_hash", lambda paper=None: "another")
    assert compute_ledger.work_folder("hail") == before
