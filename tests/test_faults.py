"""What once went wrong with a scan of somebody's own: silently, or with a traceback. The right value of each.

Everything goes through the command line, as a user does it.
"""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from heads import bare_brain, radius, save, values, whole_head

from harmony_lite import cli
from harmony_lite.methods import method_class, names

CURVES = ["percentile", "affine-match", "histogram-matching", "nyul"]


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a whole head and a brain as references, and a cache of its own."""
    monkeypatch.setenv("HARMONY_CACHE", str(tmp_path / "cache"))
    save(tmp_path / "head_ref.nii.gz", whole_head()[0])
    save(tmp_path / "brain_ref.nii.gz", bare_brain()[0])
    return tmp_path


def harmonized(place, method, data, *options, reference="head_ref.nii.gz", dtype=np.float32):
    source, out = save(place / "in.nii.gz", data, dtype=dtype), place / "out.nii.gz"
    asked = ["--reference", place / reference] if reference else []
    assert run("harmonize", "--method", method, *asked, *options, source, out) == 0
    return values(out)


def refusal(capsys, *arguments):
    """The one line that a mistake gets."""
    assert run(*arguments) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("harmony-lite: error: ")
    return said


# ----------------------------------------------------------------------------------------------- whole heads (F1, F2)


def padded(head, margin=4):
    inner = (slice(margin, -margin),) * 3
    result = np.zeros_like(head)
    result[inner] = head[inner]
    return result


def defaced(head):
    """A corner is gone, and all behind the head; the brain is whole."""
    r, _ = radius()
    gone = np.zeros(head.shape, bool)
    gone[:, 45:, :22] = gone[:, :8] = True
    return np.where(gone & (r > 0.7), 0, head)


def unwarped(head):
    """A border as a correction of gradients leaves it: zeros of another thickness on each side."""
    result = head.copy()
    result[:9], result[:, -6:], result[..., :7] = 0, 0, 0
    return result


def with_hot_voxels(head, count=6):
    result = head.copy()
    result.flat[np.random.default_rng(5).choice(head.size, count, replace=False)] = np.linspace(4e5, 1e6, count)
    return result


ODD_HEADS = {
    **{f"whole numbers, air of {noise:g}": (noise, np.round, np.int16) for noise in (0.1, 0.25, 0.5, 1.0, 2.0)},
    "a margin of zeros": (3.0, padded, np.float32),
    "a margin of zeros, whole numbers": (0.4, lambda head: np.round(padded(head, 7)), np.int16),
    "a face that is gone": (3.0, defaced, np.float32),
    "borders of a correction": (3.0, unwarped, np.float32),
    "six hot voxels": (3.0, with_hot_voxels, np.float32),
    "a hundred hot voxels": (3.0, lambda head: with_hot_voxels(head, 100), np.float32),
    "hot voxels in whole numbers and a margin": (0.4, lambda head: np.round(with_hot_voxels(padded(head))), np.int32),
}


@pytest.mark.parametrize("method", CURVES)
@pytest.mark.parametrize("kind", ODD_HEADS)
def test_the_brain_of_a_whole_head_comes_out_right(place, method, kind):
    """Within 3 % of what the same scan gives with masks."""
    noise, change, dtype = ODD_HEADS[kind]
    head, brain = whole_head(gain=4.0, seed=2, noise=noise)
    head = change(head)
    save(place / "head_ref.nii.gz", whole_head(noise=noise)[0])
    result = harmonized(place, method, head, dtype=dtype)
    mask = save(place / "mask.nii.gz", brain, dtype=np.uint8)
    masked = harmonized(place, method, head, "--mask", mask, "--reference-mask", mask, dtype=dtype)
    counted = brain & (head > 0) & (head < 1e4)
    assert result[counted].mean() == pytest.approx(masked[counted].mean(), rel=0.03)


@pytest.mark.parametrize("method", ["percentile", "nyul", "ssimh", "n4"])
def test_a_whole_head_is_not_brought_to_a_brain(place, capsys, method):
    source = save(place / "in.nii.gz", np.round(whole_head(4.0, 2, 0.4)[0]), dtype=np.int16)
    said = refusal(
        capsys, "harmonize", "--method", method, "--reference", place / "brain_ref.nii.gz", source, place / "o.nii"
    )
    assert "found a whole head, and brains in --reference" in said and "give --mask" in said
    said = refusal(capsys, "harmonize", "--method", "percentile", source, place / "o.nii")
    assert "found a whole head, and brains in the shipped weights of percentile" in said
    brain = save(place / "brain.nii.gz", bare_brain(4.0, 2)[0])
    said = refusal(
        capsys, "harmonize", "--method", method, "--reference", place / "head_ref.nii.gz", brain, place / "o.nii"
    )
    assert "found a skull-stripped scan and a whole head in --reference" in said


@pytest.mark.parametrize("method", [name for name in names() if method_class(name).on_template_grid])
def test_a_whole_head_on_the_models_grid_needs_a_mask(place, capsys, method):
    if method_class(method).shipping is None:
        return
    from harmony_lite.methods.own_grid import model_grid

    shape, affine = model_grid()
    source = save(place / "in.nii.gz", whole_head(4.0, shape=shape)[0], affine)
    scanner = ["--scanner", "mispel_ge"] if method == "mispel" else ["--scanner", "oasis_vision"]
    said = refusal(capsys, "harmonize", "--method", method, *scanner, source, place / "o.nii")
    assert "in.nii.gz: mask: found none, and a whole head" in said or "scanner" in said


@pytest.mark.parametrize("method", CURVES)
def test_a_hot_reference_is_as_good_as_a_cool_one(place, method):
    head, brain = whole_head(gain=4.0, seed=2)
    wanted = harmonized(place, method, head)
    save(place / "hot.nii.gz", with_hot_voxels(whole_head()[0]))
    found = harmonized(place, method, head, reference="hot.nii.gz")
    assert found[brain].mean() == pytest.approx(wanted[brain].mean(), rel=0.01)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """One simulated brain on the model's grid and on a scanner of MISPEL's, and its brain."""
    folder = tmp_path_factory.mktemp("simulated") / "out"
    assert run("simulate", folder, "--subjects", 1, "--scanners", "oasis_vision,mispel_ge", "--seed", 3) == 0
    scans = {path.parts[-3]: path for path in folder.glob("sub-*/ses-*/anat/*_T1w.nii.gz")}
    return scans["ses-oasisvision"], scans["ses-mispelge"]


@pytest.mark.parametrize("method", ["blindharmony", "ncc-ascent", "mispel", "unet", "harmonizing-flows"])
def test_one_hot_voxel_of_a_brain_moves_nothing(place, simulated, method, capsys):
    path = simulated[1] if method == "mispel" else simulated[0]
    scanner = {"mispel": "mispel_ge", "unet": "oasis_vision"}.get(method)
    options = ["--scanner", scanner] if scanner else []
    image = nib.load(path)
    cool = image.get_fdata()
    hot = cool.copy()
    hot[tuple(np.argwhere(cool > 0)[100_000])] = 1e6
    results = []
    for name, data in (("cool", cool), ("hot", hot)):
        source = save(place / f"{name}.nii.gz", data, image.affine)
        assert run("harmonize", "--method", method, *options, source, place / f"{name}_out.nii.gz") == 0
        results.append(values(place / f"{name}_out.nii.gz")[cool > 0])
    assert "hot voxels: 1 of up to 1e+06" in capsys.readouterr().err
    assert np.polyfit(*results, 1)[0] == pytest.approx(1, abs=0.01) and np.corrcoef(*results)[0, 1] > 0.999


# ------------------------------------------------------------------------------------- values below 0, NaN, other units


@pytest.mark.parametrize("method", ["blindharmony", "harmonizing-flows", "ncc-ascent", "ssimh", "n4", "field-swap"])
def test_a_z_scored_brain_is_refused_where_it_has_lost_its_meaning(place, simulated, capsys, method):
    image = nib.load(simulated[0])
    data = image.get_fdata()
    inside = data > 0
    source = save(
        place / "z.nii.gz", np.where(inside, (data - data[inside].mean()) / data[inside].std(), 0), image.affine
    )
    said = refusal(capsys, "harmonize", "--method", method, source, place / "o.nii.gz")
    assert "z.nii.gz: images: found" in said and "below 0" in said and "wanted magnitudes of 0 and more" in said


@pytest.mark.parametrize("method", CURVES)
def test_a_z_scored_brain_is_as_good_as_any_to_a_curve(place, method):
    data, inside = bare_brain(4.0, 2)
    z_scored = np.where(inside, (data - data[inside].mean()) / data[inside].std(), 0)
    results = [harmonized(place, method, scan, reference="brain_ref.nii.gz")[inside] for scan in (data, z_scored)]
    assert np.corrcoef(*results)[0, 1] > 0.999 and results[1].mean() == pytest.approx(results[0].mean(), rel=0.01)


@pytest.mark.parametrize("around", [np.nan, -1024.0, -1.0])
@pytest.mark.parametrize("method", [*CURVES, "white-stripe"])
def test_a_background_of_another_value_comes_back_as_it_was(place, method, around):
    data, inside = bare_brain(4.0, 2)
    wanted = harmonized(place, method, data, reference="brain_ref.nii.gz")
    found = harmonized(place, method, np.where(inside, data, around), reference="brain_ref.nii.gz")
    np.testing.assert_array_equal(found[inside], wanted[inside])
    np.testing.assert_array_equal(found[~inside], np.full((~inside).sum(), around))


def test_a_reference_with_nan_around_is_a_reference(place):
    reference, inside = bare_brain()
    data = bare_brain(4.0, 2)[0]
    wanted = harmonized(place, "percentile", data, reference="brain_ref.nii.gz")
    save(place / "nan.nii.gz", np.where(inside, reference, np.nan))
    np.testing.assert_array_equal(harmonized(place, "percentile", data, reference="nan.nii.gz"), wanted)


def test_metres_are_read_as_metres(place, simulated, capsys):
    image = nib.load(simulated[0])
    other = nib.Nifti1Image(image.get_fdata().astype(np.float32), np.diag([1e-3, 1e-3, 1e-3, 1]) @ image.affine)
    other.header.set_xyzt_units("meter")
    nib.save(other, place / "metres.nii.gz")
    assert run("harmonize", "--method", "ncc-ascent", simulated[0], place / "mm_out.nii.gz") == 0
    assert run("harmonize", "--method", "ncc-ascent", place / "metres.nii.gz", place / "m_out.nii.gz") == 0
    inside = values(simulated[0]) > 0
    pair = [values(place / f"{name}_out.nii.gz")[inside] for name in ("mm", "m")]
    assert np.corrcoef(*pair)[0, 1] > 0.99 and pair[1].mean() == pytest.approx(pair[0].mean(), rel=0.02)
    other.header.set_xyzt_units("mm")
    nib.save(other, place / "wrong.nii.gz")
    said = refusal(capsys, "harmonize", "--method", "percentile", place / "wrong.nii.gz", place / "o.nii.gz")
    assert "found voxels of 0.002 x 0.002 x 0.002 mm, wanted edges of 0.05 to 20 mm" in said


@pytest.mark.parametrize("method", [*CURVES, "white-stripe", "ssimh"])
def test_a_constant_brain_is_refused_in_one_line(place, capsys, method):
    source = save(place / "flat.nii.gz", np.where(bare_brain()[1], 100, 0))
    said = refusal(
        capsys, "harmonize", "--method", method, "--reference", place / "brain_ref.nii.gz", source, place / "o.nii"
    )
    assert "flat.nii.gz: found two values only, 0 and 100, wanted a scan and no mask of one" in said


def test_the_place_of_a_scan_in_space_does_not_matter(place, simulated):
    """The same brain 30 mm and 200 mm away, off the model's grid both times."""
    image = nib.load(simulated[0])
    results = []
    for shift in (3.0, 33.0, 203.0):
        affine = image.affine.copy()
        affine[:3, 3] += shift
        source = save(place / f"{shift:g}.nii.gz", image.get_fdata(), affine)
        assert run("harmonize", "--method", "ncc-ascent", source, place / f"{shift:g}_out.nii.gz") == 0
        results.append(values(place / f"{shift:g}_out.nii.gz")[image.get_fdata() > 0])
    for other in results[1:]:
        assert np.polyfit(results[0], other, 1)[0] == pytest.approx(1, abs=0.005)


# ------------------------------------------------------------------------------------------------ cohorts (F4, F8, F9)


def cohort_of(folder, sites=("siteA", "siteB"), people=4):
    for person in range(1, people + 1):
        for number, site in enumerate(sites):
            name = f"sub-{person:02d}_ses-{site}_T1w.nii.gz"
            data = bare_brain(1.0 + number, person, (28, 32, 28))[0]
            save(folder / f"sub-{person:02d}/ses-{site}/anat/{name}", data, np.diag([5.0, 5, 5, 1]))
    return folder


def test_another_acquisition_is_no_rescan(place, capsys):
    folder = cohort_of(place / "cohort")
    anat = folder / "sub-01/ses-siteA/anat"
    save(anat / "sub-01_ses-siteA_acq-inv_T1w.nii.gz", bare_brain(1, 9, (28, 32, 28))[0], np.diag([5.0, 5, 5, 1]))
    said = refusal(capsys, "train", "combat", "--cohort", folder, "--out", place / "w.safetensors")
    assert "found sub-01_ses-siteA_T1w.nii.gz, sub-01_ses-siteA_acq-inv_T1w.nii.gz, wanted one scan, or repeats" in said


def test_repeats_go_by_number_and_odd_files_are_none(place):
    from harmony_lite.cohort import Cohort

    anat = place / "cohort/sub-01/ses-siteA/anat"
    for number in (1, 2, 10):
        data = bare_brain(number, number, (28, 32, 28))[0]
        save(anat / f"sub-01_ses-siteA_run-{number}_T1w.nii.gz", data, np.diag([5.0, 5, 5, 1]))
    for odd in ("sub-01_ses-siteA_run-1_T1w.nii.gz.md5", "._sub-01_ses-siteA_run-1_T1w.nii.gz", ".sub-01_T1w.nii.gz"):
        (anat / odd).write_text("no scan")
    cohort = Cohort.from_files(place / "cohort")
    means = [float(cohort.scans("siteA", repeat=repeat).mean()) for repeat in range(3)]
    assert means[0] * 1.5 < means[1] < means[2] / 3
    with pytest.raises(ValueError, match="found no scan with repeat 3"):
        cohort.scans("siteA", repeat=3)


TABLES = {
    "89+ and an unknown age": ("participant_id\tage\nsub-01\t89+\nsub-02\tn/a\n", [89, None]),
    "capitals, ids without sub-, a trailing tab": ("participant_id\tAge\t\n01\t41\t\n02\t52.5\t\n", [41, 52.5]),
    "a mark at the beginning": ("\ufeffparticipant_id\tage\nsub-01\t30\nsub-02\t31\n", [30, 31]),
    "two rows a person": ("participant_id\tage\nsub-01\t30\nsub-01\t31\n", "found more than one row for sub-01"),
    "a word": ("participant_id\tage\nsub-01\told\n", "participants.tsv: found the age 'old' of sub-01, wanted years"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_of_people(place, kind):
    from harmony_lite.cohort import Cohort

    text, wanted = TABLES[kind]
    folder = cohort_of(place / "cohort", people=2)
    (folder / "participants.tsv").write_text(text, encoding="utf-8")
    if isinstance(wanted, str):
        with pytest.raises(ValueError, match=wanted):
            Cohort.from_files(folder)
        return
    ages = Cohort.from_files(folder).ages.tolist()
    assert [None if age != age else age for age in ages] == wanted


@pytest.mark.parametrize("method", ["combat", "ravel"])
def test_trained_on_ones_own_scanners_and_used_by_their_names(place, method):
    folder, own = cohort_of(place / "cohort"), place / "own.safetensors"
    assert run("train", method, "--cohort", folder, "--out", own) == 0
    scan = folder / "sub-01/ses-siteB/anat/sub-01_ses-siteB_T1w.nii.gz"
    call = ["harmonize", "--method", method, "--weights", own, "--scanner", "siteB", scan]
    assert run(*call, place / "out.nii.gz") == 0
    assert values(place / "out.nii.gz").any()


# -------------------------------------------------------------------------------------- the command itself (F6 to F13)


@pytest.mark.parametrize("method", names())
def test_a_reference_is_used_or_refused(place, simulated, capsys, method):
    cls = method_class(method)
    if cls.reference_is_enough or cls.takes_reference:
        return
    call = ["harmonize", "--method", method, "--reference", simulated[1], simulated[0], place / "o.nii.gz"]
    assert f"--reference: found {simulated[1]}, wanted none" in refusal(capsys, *call)


def test_n4_of_few_slices_of_many_voxels(place):
    data, inside = bare_brain(4.0, 2, (160, 160, 22))
    affine = np.diag([0.9, 0.9, 6, 1])
    source = save(place / "few.nii.gz", data, affine)
    assert run("harmonize", "--method", "n4", source, place / "out.nii.gz") == 0
    result = values(place / "out.nii.gz")
    assert np.isfinite(result).all() and np.corrcoef(result[inside], data[inside])[0, 1] > 0.9


def test_whatever_a_scan_raises_costs_that_scan_alone(place, monkeypatch, capsys):
    from harmony_lite.methods.classical.matching import Percentile

    for number, name in enumerate("abc"):
        save(place / f"in/{name}.nii.gz", bare_brain(number + 1, number)[0])
    usual, calls = Percentile._harmonize_any, []

    def once_each(self, *rest):
        calls.append(1)
        if len(calls) == 1:
            raise MemoryError
        if len(calls) == 2:
            raise RuntimeError("Exception thrown in a library:\nmany lines")
        return usual(self, *rest)

    monkeypatch.setattr(Percentile, "_harmonize_any", once_each)
    assert run("harmonize", "--method", "percentile", place / "in", place / "out") == 2
    said = capsys.readouterr()
    assert "1 of 3 scans" in said.out and said.err.count("\n") == 2
    assert "a.nii.gz: found too little memory" in said.err
    assert "b.nii.gz: RuntimeError: Exception thrown in a library: many lines" in said.err


SIMULATE = ["simulate", "--subjects", "1", "--scanners", "oasis_trio", "--spacing", "6"]


@pytest.mark.parametrize("where", [".", "", "new", "there"])
def test_simulate_into_a_folder(tmp_path, monkeypatch, where):
    (tmp_path / "there").mkdir()
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    out = {".": ".", "": str(here), "new": "new", "there": "../there"}[where]
    assert run(*SIMULATE, out) == 0
    assert (Path(out) / "sub-001/ses-oasistrio/anat/sub-001_ses-oasistrio_T1w.nii.gz").is_file()
    assert not list(tmp_path.rglob(".part-*"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_simulate_where_nothing_may_be_written_is_refused_before_anything(tmp_path, capsys):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert "found a place that cannot be written" in refusal(capsys, *SIMULATE, tmp_path / "new")


def test_simulate_refuses_before_it_simulates(tmp_path, monkeypatch, capsys):
    """As above for whoever may write anywhere: the system's refusal comes from a stand-in."""

    def refuse(path, *rest, **options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr("harmony_lite.cohort.simulated.simulate_person", None)
    said = refusal(capsys, *SIMULATE, tmp_path / "new")
    assert "new: found a place that cannot be written (Permission denied), wanted one" in said


def test_methods_without_weights_say_how_to_get_some(capsys, place, simulated):
    for method in names():
        if method_class(method).shipping is None:
            said = refusal(capsys, "harmonize", "--method", method, simulated[0], place / "o.nii.gz")
            assert f"{method}: found no weights, none are shipped; wanted a fit" in said and "make weights" not in said


# ----------------------------------------------------------------------------------------------------- where it runs


def in_process(place, *arguments, without=(), **environment):
    kept = {key: value for key, value in os.environ.items() if key not in without}
    root = str(Path(cli.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-m", "harmony_lite.cli", *map(str, arguments)],
        cwd=place,
        env={**kept, "PYTHONPATH": root, **environment},
        capture_output=True,
        text=True,
    )


def test_a_terminal_in_ascii(place):
    source = save(place / "größe.nii.gz", bare_brain(4.0, 2)[0])
    call = ["harmonize", "--method", "percentile", "--reference", "brain_ref.nii.gz", source.name, "ergebnis-ä.nii.gz"]
    done = in_process(place, *call, LC_ALL="C", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0 and (place / "ergebnis-ä.nii.gz").is_file(), done.stderr
    assert "ergebnis-\\udcc3\\udca4.nii.gz" in done.stdout


def test_no_home(place):
    """Nor an entry in passwd: the cache lies among the temporary files."""
    code = "import pathlib; from harmony_lite import storage\n"
    code += "def nobody(): raise RuntimeError\npathlib.Path.home = nobody\nprint(storage.cache_folder())"
    environment = {"TMPDIR": str(place), "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    kept = {k: v for k, v in os.environ.items() if k not in ("HOME", "HARMONY_CACHE", "XDG_CACHE_HOME")}
    done = subprocess.run([sys.executable, "-c", code], env=kept | environment, capture_output=True, text=True)
    assert done.stdout.strip().startswith(str(place / "harmony_lite-")), done.stderr
    call = ["harmonize", "--method", "percentile", "head_ref.nii.gz", "o.nii.gz", "--reference", "head_ref.nii.gz"]
    done = in_process(place, *call, without=("HOME", "HARMONY_CACHE", "XDG_CACHE_HOME"))
    assert done.returncode == 0, done.stderr


def test_a_cache_that_cannot_be_written_names_the_way_out(place, monkeypatch, capsys):
    """A file stands where its folder should be, which stops root too."""
    (place / "file").write_text("")
    monkeypatch.setenv("HARMONY_CACHE", str(place / "file"))
    said = refusal(capsys, *SIMULATE, place / "people")
    assert "found a cache that cannot be written" in said and "HARMONY_CACHE=FOLDER chooses another place" in said
    assert not (place / "people").exists()


def test_a_damaged_cache_is_made_again(place):
    from harmony_lite.cohort import Cohort

    wanted = Cohort.simulate(1, ["oasis_trio"], spacing=6.0, seed=3).scans("oasis_trio")
    files = list((place / "cache/people").rglob("*.safetensors"))
    assert len(files) == 2
    for path in files:
        path.write_bytes(path.read_bytes()[:-7])
    again = Cohort.simulate(1, ["oasis_trio"], spacing=6.0, seed=3).scans("oasis_trio")
    assert (again == wanted).all()


def test_files_of_a_shared_cache_may_be_read_by_others(place):
    from harmony_lite.cohort import Cohort

    before = os.umask(0o022)
    try:
        Cohort.simulate(1, ["oasis_trio"], spacing=6.0, seed=3).scans("oasis_trio")
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (place / "cache/people").rglob("*.safetensors")}
    assert modes == {0o644}


def test_a_file_of_the_cache_that_nobody_may_read_is_said(place, monkeypatch):
    from harmony_lite import storage

    (place / "file").write_text("x")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ValueError, match="found a file that may not be read, wanted to read it; HARMONY_CACHE=FOLDER"):
        storage.cached_file(place / "file")


def test_a_torn_checkpoint_says_what_to_do(place, capsys, monkeypatch):
    import phantoms

    monkeypatch.setattr("harmony_lite.own_scans.training.load_method", lambda n, v, fitted: phantoms.small(n, v))
    folder = cohort_of(place / "cohort")
    from harmony_lite.own_scans.training import Recipe, _identity

    recipe = Recipe("tone-curve", folder, out=place / "w.safetensors")
    assert len(_identity(recipe, "volume")) == 16
    monkeypatch.setattr("harmony_lite.own_scans.training._identity", lambda *_: "torn")
    training = place / "cache/training"
    training.mkdir(parents=True)
    from harmony_lite.training import checkpoint_of

    for part in ("prior", "flow"):
        path = checkpoint_of(training / "own.torn.checkpoint", part)
        path.write_bytes(b"PK no checkpoint")
    (training / "own.torn.checkpoint").write_bytes(b"PK no checkpoint")
    said = refusal(capsys, "train", "blindharmony", "--cohort", folder, "--out", place / "w.safetensors")
    assert "cannot be read as a checkpoint of a training; remove it to begin anew" in said


def test_the_record_holds_names_of_all_letters(place):
    source = save(place / "größe.nii.gz", bare_brain(4.0, 2)[0])
    assert run("harmonize", "--method", "percentile", source, place / "o.nii.gz") == 0
    assert json.loads((place / "o.json").read_text())["Sources"] == [str(source)]
