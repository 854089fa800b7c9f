"""What stands in `papers/NAME/results.quick.json`: from shipped weights, from people enough, summed up rightly."""

from collections import defaultdict
from dataclasses import asdict
from importlib import import_module

import pytest
import torch
from scipy.stats import wasserstein_distance

from harmony_lite import ledger, weights
from harmony_lite.evaluate.statistics import bootstrap_interval
from harmony_lite.ledger.convergence import trained_too_briefly
from harmony_lite.ledger.verdicts import judge
from harmony_lite.methods import load_method, method_class
from harmony_lite.methods import names as methods
from harmony_lite.papers import experiments
from harmony_lite.papers.blindharmony import experiment as blindharmony
from harmony_lite.papers.mispel import experiment as mispel
from harmony_lite.papers.published import load
from harmony_lite.papers.published import names as papers
from harmony_lite.papers.recipes import recipes
from harmony_lite.papers.sweeps import SHORT_TRAINING, sweeps
from harmony_lite.profiles import QUICK

UNTOUCHED = {"Source", "Source domain", "No harmonization", "RAW"}


@pytest.fixture(params=papers())
def results(request):
    return ledger.results(request.param, "quick")


def test_where_results_come_from_is_on_record(results):
    made = results["made"]
    assert made["command"] == "make ledger" and made["seed"] == QUICK.seed
    assert len(made["people"]) == len(set(made["people"])) >= 16  # MISPEL's cohort has 18
    assert len(made["commit"]) == 40 and set(made["commit"]) <= set("0123456789abcdef")  # no changed files
    assert made["date"] and "torch" in made["hardware"] and made["minutes of measuring"] > 0


def test_no_person_was_trained_on(results):
    training, validation, test = experiments.people_of(results["paper"], QUICK)
    assert results["made"]["people"] == list(test.subjects)
    assert not set(test.subjects) & {*training.subjects, *validation.subjects}


def test_means_and_intervals_are_those_of_the_values(results):
    for row in results["rows"]:
        is_swept = row["variant"] == SHORT_TRAINING  # of fewer people
        assert is_swept or len(row["values"]) == len(results["made"]["people"])
        found = bootstrap_interval(row["values"], generator=torch.Generator().manual_seed(0))
        assert [row["mean"], row["low"], row["high"]] == pytest.approx([found.mean, found.low, found.high], rel=1e-5)


def test_cells_of_short_trainings_are_those_of_the_sweep(results):
    found = {ledger.cell_name(row): row["values"] for row in results["rows"] if row["variant"] == SHORT_TRAINING}
    assert found == {" | ".join(words): values for words, values in experiments.swept(results["paper"], "quick")}
    trainings = getattr(experiments.experiment(results["paper"]), "SWEPT", {})
    stored = sweeps(results["paper"], "quick") if trainings else {}
    assert {(part, name) for part, names in stored.items() for name in names} == set(trainings.values())


def test_verdicts_are_those_of_the_values(results):
    values = {ledger.cell_name(row): row["values"] for row in results["rows"]}
    too_brief = trained_too_briefly(results["rows"])
    for claim in load(results["paper"]).claims:
        found = judge(claim, values, generator=torch.Generator().manual_seed(0), too_brief=too_brief)
        assert results["claims"].get(claim.id) == (found and asdict(found)), claim.id


def test_no_claim_holds_or_is_contradicted_on_weights_that_had_not_converged(results):
    cards = [weights.read_card(path) for path in weights.SHIPPED.glob("*.safetensors")]
    brief = {card.sha256 for card in cards if card.converged is False}
    judges = {one.label: one.untrained().classifier for one in recipes() if one.name not in methods()}
    files = {weights.SHIPPED / f"{label}.quick.safetensors": name for label, name in judges.items()}
    brief_judges = {name for path, name in files.items() if weights.read_card(path).converged is False}
    rows = {ledger.cell_name(row): row for row in results["rows"]}
    for claim in load(results["paper"]).claims:
        claim = claim.among(rows)
        cells = {cell.name for cell in (*claim.cells, *claim.against, *claim.baseline)} & set(rows)
        rests = any(
            brief & set(rows[cell]["weights"].split("+"))
            or rows[cell]["by"] in brief_judges
            or rows[cell]["variant"] == SHORT_TRAINING
            for cell in cells
        )
        verdict = results["claims"].get(claim.id, {}).get("verdict")
        assert not (rests and verdict in ("holds here", "contradicted here")), claim.id
        assert rests or verdict != "training too short here", claim.id


def test_rows_belong_to_the_weights_that_are_shipped(results):
    """Methods for the shipped target carry the hash of their weights; the others were fitted for the row."""
    shipped = {(one.name, one.variant) for one in experiments.fits(results["paper"]) if one.is_shipped}
    found = {(row["method"], row["variant"]): row["weights"] for row in results["rows"] if row["weights"]}
    assert set(found) == shipped
    for row in results["rows"]:
        if row["weights"]:  # several in an average over targets
            method, variant = method_class(row["method"]), row["variant"]
            targets = method.shipping.targets(variant) if method.shipping else ()
            known = {weights.load(method.shipped_weights(variant, target))[1].sha256 for target in targets}
            assert set(row["weights"].split("+")) <= known, (row["method"], variant)


def test_two_classifiers_never_share_a_table(results):
    judges = defaultdict(set)
    for row in results["rows"]:
        judges[row["place"], row["measure"]].add(row["by"])
        segmented = row["measure"].startswith(("dice", "iou", "dsc", "hd", "rAVD", "volume", "age"))
        assert bool(row["by"]) == segmented, row
    # each setting of Harmonizing Flows has an atlas of its own, by the same name
    assert all(len(names) == 1 for names in judges.values())


def test_every_cell_of_a_method_that_is_here_is_computed(results):
    paper = load(results["paper"])
    computed = {ledger.cell_name(row) for row in results["rows"]}
    untouched = UNTOUCHED | {getattr(experiments.experiment(paper.name), "UNTOUCHED", "Source")}
    own = getattr(import_module(f"harmony_lite.papers.{paper.name}"), "METHODS", {})
    is_whole = any(fit.name in own for fit in experiments.fits(paper.name))  # its own method is measured
    here = {fit.name for fit in experiments.fits(paper.name)} | {row["method"] for row in results["rows"]}
    for table in ledger.printed_tables(paper):
        for cell in table.cells:
            method = paper.methods.get(cell.row, "")  # none for what needs none, as a judge trained otherwise
            comes_later = method and method not in methods()
            has_method = bool(method) and method in here or (is_whole and not comes_later)
            if (cell.row in untouched or has_method) and cell.measure.better != "neither":
                assert cell.name in computed, cell.name


def assert_stored(found, kept):
    """What is measured now, of the first test person, is what the ledger holds."""
    assert found
    for one in found:
        name = " | ".join((one.place, one.measure, one.row, one.condition))
        assert one.value == pytest.approx(kept[name], rel=2e-3, abs=2e-3), name


@pytest.fixture(scope="module")
def first_of_blindharmony():
    return {ledger.cell_name(row): row["values"][0] for row in ledger.results("blindharmony", "quick")["rows"]}


def test_a_person_measured_now_is_the_person_in_the_ledger(first_of_blindharmony):
    """The first test person under two intensity maps, by every method: the flow and the networks too."""
    person = experiments.people(["oasis_trio"], QUICK)[2].subset([0])
    fitted, maps = experiments.Fitted("unused", QUICK), ("Exp", "Gamma 1.5")
    rows = [one for one in blindharmony.ON_MAPS if one.variant not in ("paper", "released")]  # 6 seconds each
    found = list(blindharmony.on_maps(person, fitted, rows, ablation=blindharmony.ABLATION[2:], conditions=maps))
    assert len(found) == 2 * (1 + len(rows)) + 2 * 2 + (1 + len(rows) + 1)
    assert_stored(found, first_of_blindharmony)


def test_scanners_measured_now_are_those_in_the_ledger(first_of_blindharmony):
    """The first test person on BlindHarmony's Domain 2 by shipped methods, white matter too."""
    scanners = ("oasis_trio", "oasis_vision")
    person, fitted = experiments.people(scanners, QUICK)[2].subset([0]), experiments.Fitted("unused", QUICK)
    slow = ("paper", "released")
    rows = [one for one in blindharmony.ON_SCANNERS if one.fit(scanners).is_shipped and one.method != "n4"]
    rows = [one for one in rows if one.variant not in slow]
    found = list(blindharmony.on_scanners(person, fitted, rows, conditions=("Domain 2",)))
    assert len(found) == 3 * (1 + len(rows) + 1)
    assert_stored(found, first_of_blindharmony)


def test_a_travelling_subject_measured_now_is_that_in_the_ledger(tmp_path):
    """The first one on four scanners: RAW, which is N4 and a division, and MISPEL's variants, without a classifier."""
    rows = ledger.results("mispel", "quick")["rows"]
    stored = {ledger.cell_name(row): row["values"][0] for row in rows}
    fitted = experiments.Fitted(tmp_path, QUICK)
    person = mispel.PEOPLE(mispel.PEOPLE_ON, QUICK)[2].subset([0])
    entries = (mispel.ITSELF, mispel.OURS, mispel.RELEASED)
    for images in mispel.rows_of(person, fitted, entries, controls=False):
        row = next(iter(images.values())).row
        found = mispel.without_segmentation({name: one.image for name, one in images.items()}, person)
        wanted = mispel.measured_rows(rows, "Table 2 | ssim", row)[0]
        assert found["ssim"] == pytest.approx(wanted, rel=1e-4)
        for name in ("lesion contrast", "fine noise", "CSF/WM spread", "GM/WM spread"):
            wanted = mispel.measured_rows(rows, f"{mispel.ANATOMY} | {name}", row)[0]
            assert found[name] == pytest.approx(wanted, rel=2e-3, abs=2e-4), (row, name)
    one, other = (next(mispel.rows_of(person, fitted, (), controls=False))[name].image for name in mispel.PEOPLE_ON[2:])
    found = mispel.pair_ssim(one, other, person.mask)
    assert found == pytest.approx(stored["Table 2 | ssim | RAW | Prisma-Trio"], rel=1e-4)


def test_a_pair_of_scanners_measured_now_is_that_in_the_ledger(tmp_path):
    """HAIL's distances after histogram matching."""
    fitted = experiments.Fitted(tmp_path, QUICK)
    stored = {ledger.cell_name(row): row["values"][0] for row in ledger.results("hail", "quick")["rows"]}
    person = experiments.people(["hail_a", "hail_c"], QUICK)[2].subset([0])
    source, reference = person.scans("hail_a"), fitted.reference("hail_c")
    image = load_method("histogram-matching", fitted=False).harmonize(source, reference=reference, mask=person.mask)

    def unit(scan, mask, low_high=None):
        low, high = low_high or torch.quantile(scan[mask], torch.tensor([0.01, 0.99])).tolist()
        return (scan[mask].double() - low) / (high - low)

    brain = reference > 0
    ends = tuple(torch.quantile(reference[brain], torch.tensor([0.01, 0.99])).tolist())
    before, after, wanted = unit(source, person.mask), unit(image, person.mask, ends), unit(reference, brain, ends)
    moved = 100 * wasserstein_distance(before, after) / wasserstein_distance(before, wanted)
    assert moved == pytest.approx(stored["Table 2 | nWD(i,p) | histogram-matching (volume) | A to C"], rel=5e-3)


def test_histogram_matching_of_slices_is_the_same_whatever_the_map():
    """A map bends every slice by itself, in [0, 1]: matched slice by slice it cancels, in volumes it does not."""
    rows = ledger.results("blindharmony", "quick")["rows"]
    of_maps = [r for r in rows if r["tier"] == "i" and r["place"] in ("Table 1", "Table 4") and r["measure"] == "psnr"]
    spread = {}
    for name in ("HM", "histogram-matching (volume)"):
        values = [r["values"] for r in of_maps if r["row"] == name]
        assert len(values) == 4
        spread[name] = sorted(max(person) - min(person) for person in zip(*values, strict=True))
    # the outermost slices are too small for a curve of their own and take their neighbour's, which goes on as a
    # straight line beyond the neighbour's intensities: there the map shows through a little
    assert spread["HM"][8] < 0.2 and spread["HM"][-1] < 1 < spread["histogram-matching (volume)"][0]  # dB


def test_the_real_pair_is_numbers_of_one_patient():
    found = ledger.real_pair_results("quick")
    values = {(row["row"], row["measure"]): row["value"] for row in found["rows"]}
    assert found["made"]["people"] == ["open_ms_patient01"] and {row["tier"] for row in found["rows"]} == {"iii"}
    assert values["source", "ncc"] == pytest.approx(0.9185, abs=1e-4)
    matched = {row: values[row, "wasserstein"] for row, measure in values if measure == "wasserstein"}
    assert min(matched, key=matched.get) == "histogram-matching (volume)"
