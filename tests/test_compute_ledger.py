"""`make ledger`: what is done is not done again, what other code did is not taken over, nothing is half written."""

import json
import shutil
from dataclasses import replace

import compute_ledger
import pytest

from harmony_lite.evaluate.fits import Fit
from harmony_lite.ledger.results import cell_name, results_path, write
from harmony_lite.papers import experiments
from harmony_lite.papers.sweeps import SHORT_TRAINING
from harmony_lite.profiles import QUICK

MADE = {"commit": "c", "hardware": "h", "date": "2026-01-01"}
TWO = replace(QUICK, train_subjects=3, test_subjects=2)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(compute_ledger, "active", lambda: TWO)
    monkeypatch.setattr(compute_ledger, "work_folder", lambda paper="fitted": tmp_path / "work" / paper)
    return tmp_path


def keep(paper, position, value, **more):
    path = compute_ledger.kept(paper, position)
    path.parent.mkdir(parents=True, exist_ok=True)
    one = {
        "place": "Table 1", "measure": "psnr", "row": "HM", "condition": "Exp", "tier": "i",
        "method": "histogram-matching", "variant": "slice", "by": "", "value": value, "target": "", **more,
    }  # fmt: skip
    path.write_text(json.dumps({"person": f"sub-{position}", "made": MADE, "minutes": 0.5, "found": [one]}))


def test_everything_is_to_be_done_at_first(folder):
    rounds = dict(compute_ledger.steps(["blindharmony", "hail"]))
    assert len(rounds["people"]) == (3 + 2) * 2
    assert len(rounds["test people"]) == 2 * 2
    fits = {p: {one.label for one in experiments.fits(p) if not one.is_shipped} for p in ("blindharmony", "hail")}
    assert {paper: len(labels) for paper, labels in fits.items()} == {"blindharmony": 2, "hail": 3}
    assert len(rounds["fits"]) == 5  # ComBat, RAVEL; field swap on each of three sites


def test_who_fits_nothing_needs_no_training_people(folder, monkeypatch):
    monkeypatch.setattr(experiments, "fits", lambda paper: ())
    assert len(dict(compute_ledger.steps(["hail"]))["people"]) == 2


def test_what_is_done_is_left_out(folder):
    keep("hail", 0, 1.0)
    rounds = dict(compute_ledger.steps(["hail"]))
    assert [step[2] for step in rounds["test people"]] == [1]
    keep("hail", 1, 1.0)
    assert not any(dict(compute_ledger.steps(["hail"])).values())


def test_two_papers_share_a_fit(folder, monkeypatch):
    fits = [Fit("atlas", kinds, ("oasis_trio",)) for kinds in ("tissues", "labels")]
    monkeypatch.setattr(experiments, "fits", lambda paper: fits if paper == "blindharmony" else fits[:1])
    rounds = dict(compute_ledger.steps(["blindharmonydiff", "blindharmony"]))
    taken = [experiments.fits(paper)[i].label for _, paper, i in rounds["fits"]]
    assert sorted(taken) == ["atlas.labels.oasis_trio", "atlas.tissues.oasis_trio"]


def test_for_some_rows_nothing_is_fitted_ahead(folder, monkeypatch):
    """Methods of other rows may take hours to fit; training people are simulated for fits alone."""
    monkeypatch.setattr(experiments, "fits", lambda paper: [Fit("atlas", "tissues", ("oasis_trio",))])
    whole, some = (dict(compute_ledger.steps(["blindharmony"], rows)) for rows in ((), ("field-swap",)))
    assert len(whole["fits"]) == 1 and not some["fits"]
    assert len(whole["people"]) > len(some["people"]) == len(some["test people"])


def test_results_hold_every_person_the_mean_and_the_weights(folder):
    keep("blindharmony", 0, 26.123456789)
    keep("blindharmony", 1, 27.0)
    path = results_path("blindharmony", folder=folder / "papers")
    write(path, compute_ledger.judged(compute_ledger.assembled("blindharmony")))
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


def copy_of_the_package(folder):
    package = folder / "harmony_lite"
    shutil.copytree(compute_ledger.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    return package


PAPERS_AND_FITS = (None, "blindharmony", "hail")
# a file of each kind, and whose values depend on it
CHANGES = {
    "nets/spline.py": PAPERS_AND_FITS,
    "training/loop.py": PAPERS_AND_FITS,
    "storage.py": PAPERS_AND_FITS,
    "profiles.py": PAPERS_AND_FITS,
    "simulate/physics.py": PAPERS_AND_FITS,
    "cohort/people.py": PAPERS_AND_FITS,
    "methods/classical/matching.py": PAPERS_AND_FITS,
    "tasks/atlas.py": PAPERS_AND_FITS,
    "evaluate/metrics.py": PAPERS_AND_FITS,
    "papers/blindharmony/optimization.py": PAPERS_AND_FITS,
    "shipped/nyul.volume.quick.safetensors": PAPERS_AND_FITS,
    "papers/blindharmony/experiment.py": ("blindharmony",),
    "papers/blindharmony/published.toml": ("blindharmony",),
    "papers/hail/experiment.py": ("hail",),
    "papers/blindharmony/results.quick.json": (),
    "papers/blindharmony/exercises_10.py": (),
    "exercises/__init__.py": (),
    "show/figures.py": (),
    "ledger/rows.py": (),
    "cli.py": (),
}


def test_a_change_of_any_code_that_a_value_depends_on_starts_anew(tmp_path, monkeypatch):
    package = copy_of_the_package(tmp_path)
    monkeypatch.setattr(compute_ledger, "PACKAGE", package)

    def hashes():
        return {paper: compute_ledger.code_hash(paper) for paper in PAPERS_AND_FITS}

    before = hashes()
    assert hashes() == before and len(set(before.values())) == len(before)
    for name, depending in CHANGES.items():
        path = package / name
        kept = path.read_bytes()
        path.write_bytes(kept + b"\n# changed\n")
        after = hashes()
        assert {paper for paper in PAPERS_AND_FITS if after[paper] != before[paper]} == set(depending), name
        path.write_bytes(kept)
    assert hashes() == before


def test_every_file_of_code_is_counted_or_named_as_one_that_no_value_depends_on():
    uncounted = [
        path.relative_to(compute_ledger.PACKAGE)
        for path in compute_ledger.PACKAGE.rglob("*.py")
        if not compute_ledger._counts(path.relative_to(compute_ledger.PACKAGE), None)
    ]
    assert {path.parts[0] for path in uncounted} <= {*compute_ledger.NO_VALUES, "papers"}
    assert {path.stem.rstrip("0123456789") for path in uncounted if path.parts[0] == "papers"} == {
        "experiment", "exercises_",
    }  # fmt: skip


def test_an_unknown_paper_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        compute_ledger.main(["dreams"])
    assert stop.value.code == 2 and "found 'dreams', wanted one of" in capsys.readouterr().err


def test_what_is_edited_while_it_runs_does_not_move_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(compute_ledger, "_FOLDERS", {})
    before = compute_ledger.work_folder("hail")
    monkeypatch.setattr(compute_ledger, "code_hash", lambda paper=None: "another")
    assert compute_ledger.work_folder("hail") == before


def test_a_cell_of_several_targets_names_all_their_weights():
    """A row of one setting rests on that target's weights; an average on those of all."""
    by_target = {"abide_caltech": "a" * 64, "abide_nyu": "b" * 64, "abide_kki": ""}
    assert compute_ledger._weights(by_target, "abide_nyu") == "b" * 64
    assert compute_ledger._weights(by_target, "") == "a" * 64 + "+" + "b" * 64
    assert compute_ledger._weights(by_target, "abide_kki") == compute_ledger._weights({}, "abide_nyu") == ""


# ----------------------------------------------------------------------------------------- some rows without the others


def results_of(folder, rows=(), **values):
    """Results of two people whose rows, under Exp, have these values for the first; the second has one more."""
    for position in (0, 1):
        path = compute_ledger.kept("blindharmony", position, rows)
        path.parent.mkdir(parents=True, exist_ok=True)
        found = [
            {
                "place": "Table 1", "measure": "psnr", "row": row, "condition": "Exp", "tier": "i",
                "method": "" if row == "Source" else "field-swap", "variant": "", "by": "", "target": "",
                "value": value + position,
            }
            for row, value in values.items()
        ]  # fmt: skip
        path.write_text(json.dumps({"person": f"sub-{position}", "made": MADE, "minutes": 0.5, "found": found}))
    return compute_ledger.assembled("blindharmony", rows)


def test_a_row_measured_later_stands_beside_the_stored_ones(folder):
    stored = results_of(folder, Source=20.0, HM=25.0)
    later = results_of(folder, ("field-swap",), Source=20.0, **{"field-swap": 27.0})
    both = compute_ledger.with_rows(stored, later, ("field-swap",))
    assert [(row["row"], row["values"]) for row in both["rows"]] == [
        ("Source", [20.0, 21.0]), ("HM", [25.0, 26.0]), ("field-swap", [27.0, 28.0]),
    ]  # fmt: skip
    assert both["made"]["added"] == [{"rows": ["field-swap"], **MADE}]
    again = results_of(folder, ("field-swap",), Source=20.0, **{"field-swap": 29.0})
    replaced = compute_ledger.with_rows(both, again, ("field-swap",))
    assert replaced["rows"][-1]["values"] == [29.0, 30.0] and len(replaced["rows"]) == 3
    assert len(replaced["made"]["added"]) == 1


def test_short_trainings_fill_their_cells_and_no_others(monkeypatch):
    """In the place of those of an earlier sweep; the claim about them is judged, and no such training decides it."""
    of = dict.fromkeys(("tier", "method", "variant", "by", "weights"), "")
    other = {"place": "Table 1", "measure": "psnr", "row": "SSIMH", "condition": "Vida", "values": [20.0], **of}
    before = {**other, "place": "section 4.3", "row": "10 %", "variant": SHORT_TRAINING}
    swept = [("section 4.3", name, share, "target domain") for name in ("psnr", "ssim") for share in ("0 %", "20 %")]
    values = [(words, [1.0 + i, 1.5 + i]) for i, words in enumerate(swept)]
    monkeypatch.setattr(experiments, "swept", lambda paper: values)
    found = compute_ledger.judged({"paper": "blindharmonydiff", "made": {}, "rows": [before, other]})
    assert [cell_name(row) for row in found["rows"]] == [cell_name(other), *(" | ".join(words) for words in swept)]
    assert {row["variant"] for row in found["rows"][1:]} == {SHORT_TRAINING} and found["rows"][1]["mean"] == 1.25
    assert found["claims"]["multi-stride-best-at-20"]["verdict"] == "training too short here"


def test_a_row_is_refused_where_the_rest_came_out_otherwise(folder):
    stored, names = results_of(folder, Source=20.0, HM=25.0), ("field-swap",)
    with pytest.raises(ValueError, match="Table 1 . psnr . Source . Exp: found other values than stored"):
        compute_ledger.with_rows(stored, results_of(folder, names, Source=20.1, **{"field-swap": 27.0}), names)
    with pytest.raises(ValueError, match="rows: found no field-swap in the tables"):
        compute_ledger.with_rows(stored, results_of(folder, names, Source=20.0), names)
    others = results_of(folder, names, Source=20.0, **{"field-swap": 27.0})
    others["made"]["people"] = ["sub-8", "sub-9"]
    with pytest.raises(ValueError, match="people: found others than in the stored results"):
        compute_ledger.with_rows(stored, others, names)


def test_a_paper_that_is_measured_as_a_whole_refuses_rows(capsys):
    with pytest.raises(SystemExit) as stop:
        compute_ledger.main(["mispel", "--rows", "field-swap"])
    assert (
        stop.value.code == 2 and "wanted one paper that has results and is measured by rows" in capsys.readouterr().err
    )
    with pytest.raises(ValueError, match="because mispel is measured as a whole"):
        experiments.measure("mispel", [None], None, ("field-swap",))


def test_some_rows_of_a_person_are_those_and_the_ones_without_a_method():
    person = experiments.people_of("blindharmony", QUICK)[2].subset([0])
    found = experiments.measure("blindharmony", person, experiments.Fitted("unused", QUICK), ("affine-match (volume)",))
    assert {one.row for one in found} == {"Source", "affine-match (volume)", "rescan"}
    assert {one.place for one in found} == {f"Table {n}" for n in (1, 2, 3, 4)} | {"section 4.3", "section 4.4"}
