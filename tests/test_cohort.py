"""Cohorts: the same bits from the same seed, splits by person, files there and back, and views with no way around."""

import gc
import os
import shutil
import subprocess
import sys
from types import FunctionType, ModuleType

import numpy as np
import pytest
import torch

from harmony_lite.cohort import Cohort, Needs
from harmony_lite.images.intensity_maps import MAPS, mapped_slices
from harmony_lite.simulate import PRESETS
from harmony_lite.simulate.template import template
from harmony_lite.storage import cache_folder

SCANNERS = ["oasis_trio", "oasis_vision"]
SPACING = 4.0  # small people are people too


@pytest.fixture(scope="module")
def cohort():
    return Cohort.simulate(4, SCANNERS, SPACING, seed=3)


def test_shapes_and_types(cohort):
    assert cohort.scans("trio").shape == (4, 1, 40, 48, 40) and cohort.scans("trio").dtype == torch.float32
    assert cohort.mask.dtype == cohort.lesions.dtype == torch.bool and cohort.labels.dtype == torch.uint8
    assert cohort.tissues.shape == (4, 3, 40, 48, 40) and cohort.ages.shape == (4,)
    assert list(cohort.volumes_ml.index) == list(cohort.subjects) == [f"sub-00{i}" for i in (1, 2, 3, 4)]
    assert cohort.slices("vision", 5).shape == (20, 1, 40, 48)


def test_a_rescan_is_the_same_person_again(cohort):
    first, second = cohort.scans("trio"), cohort.scans("trio", repeat=1)
    assert not torch.equal(first, second)
    assert float(torch.corrcoef(torch.stack([first[cohort.mask], second[cohort.mask]]))[0, 1]) > 0.95


def digest_in_new_process(seed, cache):
    code = (
        "import hashlib, torch; torch.set_num_threads(1); from harmony_lite.cohort import Cohort;"
        f"c = Cohort.simulate(2, {SCANNERS}, {SPACING}, seed={seed});"
        "h = hashlib.sha256();"
        "scans = [c.scans(s, repeat) for s in c.scanners for repeat in (0, 1)];"
        "[h.update(t.numpy().tobytes()) for t in (*scans, c.labels, c.tissues, c.lesions, c.ages)];"
        "print(h.hexdigest())"
    )
    environment = {**os.environ, "HARMONY_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_several_processes_make_the_same_people_as_one(tmp_path, monkeypatch):
    template()
    found = {}
    for jobs in (1, 4):
        monkeypatch.setenv("HARMONY_CACHE", str(tmp_path / f"jobs{jobs}"))
        (tmp_path / f"jobs{jobs}").mkdir()
        cohort = Cohort.simulate(3, SCANNERS, SPACING, seed=5, jobs=jobs)
        files = sorted(path.relative_to(cache_folder()) for path in cache_folder().rglob("scan-*.safetensors"))
        assert len(files) == (0 if jobs == 1 else 6), "several processes make all at once, one makes what is asked for"
        found[jobs] = [*(cohort.scans(s) for s in SCANNERS), cohort.labels, cohort.tissues, cohort.mask]
    assert all(torch.equal(one, four) for one, four in zip(found[1], found[4], strict=True))


def test_same_seed_same_bits_in_two_processes(tmp_path):
    template()  # prepared once; the people are made anew
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for prepared in cache_folder().glob("template-*.safetensors"):
            shutil.copy(prepared, tmp_path / name)
    first = digest_in_new_process(7, tmp_path / "a")
    assert first == digest_in_new_process(7, tmp_path / "b")  # made anew
    assert first == digest_in_new_process(7, tmp_path / "a")  # from the cache
    assert first != digest_in_new_process(8, tmp_path / "a")


def test_people_do_not_depend_on_who_else_is_there(cohort):
    alone = Cohort.simulate(2, ["oasis_vision"], SPACING, seed=3)
    assert torch.equal(alone.scans("vision"), cohort.scans("vision")[:2])


def test_splits_share_nobody(cohort):
    train, test = cohort.split(3, 1)
    assert set(train.subjects).isdisjoint(test.subjects)
    assert torch.equal(test.scans("trio"), cohort.scans("trio")[3:])
    with pytest.raises(ValueError, match="at most 4 people"):
        cohort.split(3, 2)


def reachable_tensors(thing):
    """Every tensor that can be reached from a view, through attributes, containers, closures and shared memory."""
    seen, queue, tensors = set(), [thing], []
    while queue:
        current = queue.pop()
        if id(current) in seen or isinstance(current, type | ModuleType):
            continue
        seen.add(id(current))
        if isinstance(current, FunctionType):  # not its globals, which hold this test
            queue.extend(cell.cell_contents for cell in current.__closure__ or ())
            continue
        if isinstance(current, torch.Tensor):
            whole = torch.empty(0, dtype=current.dtype).set_(current.untyped_storage())
            tensors.append(whole)
        queue.extend(gc.get_referents(current))
    return tensors


@pytest.mark.parametrize("needs", [Needs.TARGET_ONLY, Needs.ONE_REFERENCE])
def test_a_blind_view_has_no_way_to_the_source_scans(cohort, needs):
    view = cohort.view(needs)
    forbidden = {tuple(scan[scan > 0].tolist()) for scan in cohort.scans("vision")}
    found = reachable_tensors(view)
    assert found, "the view holds the target scans at least"
    sizes = {image.numel() for image in cohort.scans("vision")}
    for tensor in found:
        for start in range(0, tensor.numel() - min(sizes) + 1, min(sizes)):
            piece = tensor.flatten()[start : start + min(sizes)].float()
            assert tuple(piece[piece > 0].tolist()) not in forbidden
    names = [name for name in dir(view) if not name.startswith("__")]
    assert names in (["target"], ["reference"])


def test_that_the_reach_test_can_fail(cohort):
    found = reachable_tensors(cohort.view(Needs.PAIRED))
    source = cohort.scans("vision")
    assert any(t.numel() == source.numel() and torch.equal(t.flatten().float(), source.flatten()) for t in found)


def test_that_the_reach_test_looks_into_closures(cohort):
    source = cohort.scans("vision")
    view = {"innocent": lambda: source.sum()}
    assert any(t.numel() == source.numel() for t in reachable_tensors(view))


def test_changing_a_view_leaves_the_cohort_alone(cohort):
    cohort.view(Needs.TARGET_ONLY).target.images.zero_()
    assert float(cohort.scans("trio").max()) > 0


def test_unpaired_domains_share_no_person(cohort):
    view = cohort.view(Needs.UNPAIRED)
    assert len(view.target.images) == len(view.sources["oasis_vision"].images) == 2
    target, source = view.target.mask.flatten(1), view.sources["oasis_vision"].mask.flatten(1)
    assert not any(torch.equal(a, b) for a in target for b in source)


def test_paired_views_keep_the_order(cohort):
    paired, several = cohort.view(Needs.PAIRED), cohort.view(Needs.SEVERAL_SCANNERS)
    assert torch.equal(paired.target.mask, paired.sources["oasis_vision"].mask)
    assert list(several.scanners) == SCANNERS
    with pytest.raises(ValueError, match="wanted at least two"):
        Cohort.simulate(2, ["trio"], SPACING).view(Needs.PAIRED)


def test_files_there_and_back(cohort, tmp_path):
    cohort.subset([0, 1]).to_files(tmp_path / "bids", repeats=2)
    back = Cohort.from_files(tmp_path / "bids")
    assert back.scanners == ("oasis_trio", "oasis_vision") and len(back) == 2
    for repeat in (0, 1):
        assert torch.equal(back.scans("vision", repeat), cohort.scans("vision", repeat)[:2])
    assert torch.equal(back.mask, cohort.mask[:2]) and torch.equal(back.labels, cohort.labels[:2])
    assert torch.equal(back.lesions, cohort.lesions[:2])
    torch.testing.assert_close(back.tissues, cohort.tissues[:2])
    torch.testing.assert_close(back.ages, cohort.ages[:2], rtol=0, atol=0.06)
    np.testing.assert_allclose(back.affine(), cohort.affine(), atol=1e-5)
    np.testing.assert_allclose(back.volumes_ml["GM"], cohort.volumes_ml["GM"][:2], atol=0.01)
    assert back.with_target("oasis_vision").scanners == ("oasis_vision", "oasis_trio")
    with pytest.raises(ValueError, match="no scan with repeat 2"):
        back.scans("trio", repeat=2)
    with pytest.raises(ValueError, match="not empty"):
        cohort.to_files(tmp_path / "bids")


def test_incomplete_people_are_left_out_or_refused(cohort, tmp_path):
    cohort.subset([0, 1]).to_files(tmp_path / "bids")
    next((tmp_path / "bids" / "sub-001" / "ses-oasisvision" / "anat").glob("*_T1w.nii.gz")).unlink()
    back = Cohort.from_files(tmp_path / "bids")
    assert len(back.scans("vision")) == len(back.masks("vision")) == 1 and not back.has("vision")
    with pytest.raises(ValueError, match="1 of 2 subjects on every scanner"):
        back.view(Needs.PAIRED)


def test_participants_without_their_ids(cohort, tmp_path):
    cohort.subset([0]).to_files(tmp_path / "bids")
    (tmp_path / "bids" / "participants.tsv").write_text("name\tage\nsub-001\t40\n")
    with pytest.raises(ValueError, match="found the columns name, age, wanted participant_id"):
        Cohort.from_files(tmp_path / "bids")


def test_wrong_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        Cohort.from_files(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="found a file, wanted a folder"):
        Cohort.from_files(tmp_path / "file")
    with pytest.raises(ValueError, match="wanted at least one"):
        Cohort.from_files(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"subjects": 0}, "subjects: found 0, wanted a whole number of at least 1"),
        ({"subjects": 2.0}, "subjects: found 2.0, wanted a whole number"),
        ({"subjects": True}, "subjects: found True, wanted a whole number"),
        ({"seed": 1.5}, "seed: found 1.5, wanted a whole number"),
        ({"seed": -1}, "seed: found -1, wanted a whole number of at least 0"),
        ({"spacing": "2"}, "spacing: found '2', wanted a number of mm or three"),
        ({"spacing": (2.0, "2", 2.0)}, "wanted a number of mm or three"),
        ({"spacing": True}, "spacing: found True, wanted a number of mm or three"),
        ({"scanners": ["trio", "oasis_trio"]}, "none twice"),
        ({"scanners": ["skyra"]}, "scanner: found 'skyra'"),
        ({"scanners": [PRESETS["oasis_trio"]]}, "wanted a list of names"),
        ({"scanners": "oasis_trio"}, "wanted a list of names"),
        ({"ages": [120.0] * 8}, "found 120.0, wanted 18 to 95 years"),
        ({"spacing": 0.3}, "each 1 to 8 mm"),
        ({"subjects": 2, "ages": [30.0]}, "one for each of 2 subjects"),
        ({"subjects": 1, "jobs": 0}, "jobs: found 0, wanted a whole number of at least 1"),
        ({"subjects": 1, "jobs": 2.5}, "jobs: found 2.5, wanted a whole number"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Cohort.simulate(**{"spacing": SPACING, **arguments})


def test_unknown_scanner_of_a_cohort(cohort):
    with pytest.raises(ValueError, match="one of this cohort's: oasis_trio, oasis_vision"):
        cohort.scans("sonata")


def test_maps_are_further_scanners_of_the_targets_own_scans(cohort):
    bent = cohort.with_maps({"exp": MAPS["exp"]})
    assert bent.scanners == ("oasis_trio", "exp") and len(bent) == len(cohort)
    assert torch.equal(bent.scans("trio"), cohort.scans("trio")) and torch.equal(bent.masks("exp"), cohort.mask)
    brain = cohort.scans("trio") * cohort.mask
    assert torch.equal(bent.scans("exp"), mapped_slices(MAPS["exp"], brain))
    assert torch.equal(bent.labels, cohort.labels) and bent.has("exp", 1)
    assert not torch.equal(bent.scans("exp", repeat=1), bent.scans("exp"))  # the rescan under the map
    assert bent.with_target("exp").scanners == ("exp", "oasis_trio")
    paired = bent.subset([1]).view(Needs.PAIRED)
    assert torch.equal(paired.sources["exp"].images, bent.scans("exp")[1:2])
    for maps in ({}, {"oasis_trio": MAPS["exp"]}):
        with pytest.raises(ValueError, match="maps: found"):
            cohort.with_maps(maps)
