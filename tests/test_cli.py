"""The command line: what each command writes and prints, and that help comes quickly."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from harmony_lite import cli, methods, weights
from harmony_lite.cohort import Cohort, Scans, TargetOnly
from harmony_lite.images import nifti
from harmony_lite.methods.own_grid import Placed
from harmony_lite.methods.own_grid.smooth_change import model_grid
from harmony_lite.own_scans import one_scan
from harmony_lite.profiles import active

SHAPE = (20, 22, 64)  # higher than the slices of either profile
AFFINE = np.array([[-2.0, 0, 0, 20], [0, 2.0, 0, -22], [0, 0, 2.5, -18], [0, 0, 0, 1]])


def scan_values(seed=0, gain=1.0):
    """A ball with texture, exactly 0 around it, in int16's range."""
    rng = np.random.default_rng(seed)
    radius = np.sqrt(sum(axis**2 for axis in np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")))
    tissue = np.where(radius < 0.5, 800, 400) + rng.normal(0, 30, SHAPE)
    return np.where(radius < 0.9, gain * tissue, 0)


def save(path, data, affine=AFFINE, dtype=np.int16):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data.astype(dtype), affine), path)
    return path


@pytest.fixture
def source(tmp_path):
    return save(tmp_path / "source.nii.gz", scan_values(0))


@pytest.fixture
def target(tmp_path):
    return save(tmp_path / "target.nii.gz", scan_values(1, gain=2.5))


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


@pytest.mark.parametrize("method", ["affine-match", "histogram_matching", "percentile"])
@pytest.mark.parametrize("variant", [None, "slice"])
def test_harmonize_to_a_reference(tmp_path, capsys, source, target, method, variant):
    out = tmp_path / "out.nii"
    chosen = ["--variant", variant] if variant else []
    save(tmp_path / "brain.nii", scan_values() > 0)
    masks = ["--mask", tmp_path / "brain.nii", "--reference-mask", tmp_path / "brain.nii"]
    assert run("harmonize", "--method", method, *chosen, *masks, "--reference", target, source, out) == 0
    used = f"{method.replace('_', '-')}, variant {variant or 'volume'}, to {target}"
    assert capsys.readouterr().out == f"{out}: {source} by {used}\n"
    harmonized, original, wanted = nib.load(out), nib.load(source), nib.load(target)
    assert harmonized.shape == original.shape and harmonized.get_data_dtype() == np.float32
    np.testing.assert_array_equal(harmonized.affine, original.affine)
    values = harmonized.get_fdata()
    inside = scan_values() > 0
    assert not values[~inside].any()
    assert np.mean(values[inside]) == pytest.approx(np.mean(wanted.get_fdata()[inside]), rel=0.02)


def test_the_command_line_gives_what_the_library_gives(tmp_path, source, target):
    out = tmp_path / "out.nii.gz"
    assert run("harmonize", "--method", "histogram-matching", "--reference", target, source, out) == 0
    method = methods.load_method("histogram-matching", fitted=False)
    wanted = method.harmonize(nifti.read(source).volume, reference=nifti.read(target).volume)
    assert torch.equal(nifti.read(out).volume, wanted)


def test_a_trained_method_is_sent_to_a_reference(tmp_path, capsys, source, target):
    """Its weights say how, the reference says where to."""
    out = tmp_path / "out.nii.gz"
    assert run("harmonize", "--method", "hail", "--reference", target, source, out) == 0
    used = capsys.readouterr().out
    assert "by hail, variant ours, weights hail.ours.quick" in used and used.endswith(f", to {target}\n")
    method = methods.load_method("hail")
    wanted = method.harmonize(nifti.read(source).volume, reference=nifti.read(target).volume)
    assert torch.equal(nifti.read(out).volume, wanted)
    np.testing.assert_array_equal(nib.load(out).affine, AFFINE)
    inside = scan_values() > 0
    found, goal = (nib.load(path).get_fdata()[inside].mean() for path in (out, target))
    assert found == pytest.approx(goal, rel=0.1)


def test_reference_mask_takes_the_skull_off(tmp_path, source, target):
    head = scan_values(1, gain=2.5)
    head[0, 1:-1, 1:-1] = 9000  # a bright patch outside the brain
    save(tmp_path / "head.nii.gz", head)
    save(tmp_path / "brain.nii.gz", scan_values() > 0)
    call = ["harmonize", "--method", "affine-match", source]
    assert run(*call, tmp_path / "a.nii", "--reference", target) == 0
    masked = ["--reference", tmp_path / "head.nii.gz", "--reference-mask", tmp_path / "brain.nii.gz"]
    assert run(*call, tmp_path / "b.nii", *masked) == 0
    assert run(*call, tmp_path / "c.nii", "--reference", tmp_path / "head.nii.gz") == 0
    a, b, c = (nifti.read(tmp_path / f"{name}.nii").volume for name in "abc")
    assert torch.equal(a, b) and not torch.allclose(a, c, rtol=0.05)


def test_without_a_reference_the_shipped_standard_serves(tmp_path, monkeypatch, capsys, source, target):
    monkeypatch.setenv("HARMONY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(weights, "SHIPPED", tmp_path / "nothing")
    out = tmp_path / "out.nii.gz"
    assert run("harmonize", "--method", "percentile", source, out) == 2
    message = capsys.readouterr().err
    assert "make weights" in message and "--reference" in message and not out.exists()

    volume = nifti.read(target).volume
    method = methods.load_method("percentile", fitted=False).fit(TargetOnly(Scans(volume, volume > 0)))
    card = {"command": "a test", "profile": active().name, "data_seed": 0, "minutes": 0.0, "metric": {}, "recipe": {}}
    folder = tmp_path / "cache" / "weights"
    weights.save(method.state(), folder / f"percentile.volume.{active().name}.safetensors", **card)
    assert run("harmonize", "--method", "percentile", source, out) == 0
    hashed = hashlib.sha256((folder / f"percentile.volume.{active().name}.safetensors").read_bytes()).hexdigest()
    used = f"percentile, variant volume, weights percentile.volume.{active().name} (sha256 {hashed[:12]})"
    assert capsys.readouterr().out == f"{out}: {source} by {used}\n"
    harmonized, wanted = nifti.read(out).volume, nifti.read(target).volume
    for share in (1, 99):
        found = np.percentile(harmonized[harmonized != 0], share)
        assert found == pytest.approx(np.percentile(wanted[wanted != 0], share), rel=0.01)
    capsys.readouterr()
    assert run("methods", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["percentile"]["shipped"] == ["volume"] and rows["affine-match"]["shipped"] == []


# what can be wrong with the weights in one's own folder, which come before the shipped ones: how it is made from a
# shipped pair (weights, card), and what is said about it
WRONG_WEIGHTS = {
    "one byte turned": (lambda w, c: _turn_a_byte(w), "found weights with SHA-256 {now}, wanted {before} as on their"),
    "half a file": (
        lambda w, c: w.write_bytes(w.read_bytes()[:5000]),
        "found weights with SHA-256 {now}, wanted {before}",
    ),
    "no card": (lambda w, c: c.unlink(), "json: found no such file, wanted the card of the weights beside it"),
    "a card of something else": (lambda w, c: c.write_text('{"name": "x"}'), "json: found a card with name, wanted co"),
    "a card that is no JSON": (lambda w, c: c.write_text("sha256: 1"), "json: found a card that is not JSON, wanted"),
    "a pickle with a fitting card": (
        lambda w, c: _replace(w, c, b"\x80\x04K\x01."),
        "found a file that is no safetensors file, wanted",
    ),
    "those of another method": (
        lambda w, c: _replace(w, c, (weights.SHIPPED / "percentile.volume.quick.safetensors").read_bytes()),
        "found weights that blindharmony cannot take, wanted its own: blindharmony: found the tensors",
    ),
    "those of another size": (
        lambda w, c: _without_a_row(w),
        "found weights that blindharmony cannot take, wanted its own: blindharmony: found a flow of another form",
    ),
}


def _turn_a_byte(path):
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)


def _replace(path, card, data):
    path.write_bytes(data)
    card.write_text(json.dumps(json.loads(card.read_text()) | {"sha256": hashlib.sha256(data).hexdigest()}))


def _without_a_row(path):
    state, card = weights.load(path)
    name = max((name for name in state if name.startswith("flow.")), key=lambda name: state[name].numel())
    state[name] = state[name][1:]
    weights.save(state, path, **{key: value for key, value in vars(card).items() if key != "sha256"})


@pytest.mark.parametrize("spoil, message", WRONG_WEIGHTS.values(), ids=WRONG_WEIGHTS)
def test_corrupted_or_foreign_weights_are_refused(tmp_path, monkeypatch, capsys, source, spoil, message):
    monkeypatch.setenv("HARMONY_CACHE", str(tmp_path / "cache"))
    own = tmp_path / "cache" / "weights" / f"blindharmony.ours.{active().name}.safetensors"
    own.parent.mkdir(parents=True)
    shipped = methods.method_class("blindharmony").shipped_weights("ours")
    for path, place in ((shipped, own), (shipped.with_suffix(".json"), own.with_suffix(".json"))):
        shutil.copyfile(path, place)
    before = hashlib.sha256(own.read_bytes()).hexdigest()
    spoil(own, own.with_suffix(".json"))
    out = tmp_path / "out.nii.gz"
    assert run("harmonize", "--method", "blindharmony", source, out) == 2
    said = capsys.readouterr()
    wanted = message.format(now=hashlib.sha256(own.read_bytes()).hexdigest(), before=before)
    assert wanted in said.err and str(own.with_suffix("")) in said.err and "wanted" in said.err
    assert said.err.count("\n") == 1 and said.out == "" and not out.exists()


def test_which_scans_are_aligned_first(tmp_path, monkeypatch, capsys):
    """Only those off the model's grid, and only for methods that work on it."""
    aligned = []

    def placed(volume, affine, mask):
        return Placed(volume, mask, np.eye(4))

    def recorded(method, volume, mask, placed, **rest):
        aligned.append((method.name, int(mask.sum()), rest))
        return volume * mask

    monkeypatch.setattr(one_scan, "on_model_grid", placed)
    monkeypatch.setattr(one_scan, "change_brought_back", recorded)
    shape, grid = model_grid()
    rng = np.random.default_rng(0)
    radius = np.sqrt(sum(axis**2 for axis in np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")))
    brain = np.where(radius < 0.8, rng.integers(300, 900, shape), 0)
    on_it = save(tmp_path / "on.nii.gz", brain, grid)
    off_it = save(tmp_path / "off.nii.gz", brain, grid + np.eye(4, k=3) * 0.5)
    small = save(tmp_path / "small.nii.gz", radius < 0.5, off := grid + np.eye(4, k=3) * 0.5, np.uint8)
    assert off[0, 3] == grid[0, 3] + 0.5
    out = tmp_path / "out.nii.gz"
    assert run("harmonize", "--method", "ncc-ascent", on_it, out) == 0 and not aligned
    wanted = methods.load_method("ncc-ascent").harmonize(nifti.read(on_it).volume)
    assert torch.equal(nifti.read(out).volume, wanted), "the library's own result, voxel by voxel"
    assert run("harmonize", "--method", "percentile", off_it, out) == 0 and not aligned
    # an ascent from a reference takes place on the reference's grid
    assert run("harmonize", "--method", "ncc-ascent", "--reference", off_it, off_it, out) == 0 and not aligned
    assert run("harmonize", "--method", "ncc-ascent", off_it, out) == 0
    assert run("harmonize", "--method", "blindharmony", "--variant", "paper", "--mask", small, off_it, out) == 0
    none = {"scanner": None}
    found = [("ncc-ascent", int((brain > 0).sum()), none), ("blindharmony", int((radius < 0.5).sum()), none)]
    assert aligned == found
    assert " by blindharmony, variant paper, weights blindharmony.ours." in capsys.readouterr().out


def test_a_head_with_its_skull_needs_a_mask(tmp_path, capsys):
    rng = np.random.default_rng(0)
    head = save(tmp_path / "head.nii.gz", rng.integers(1, 900, (80, 90, 80)), np.diag([2.0, 2.0, 2.0, 1.0]))
    assert run("harmonize", "--method", "ncc-ascent", head, tmp_path / "out.nii") == 2
    said = capsys.readouterr().err
    assert "head.nii.gz: mask: found" in said and "a scan with its skull needs a brain mask" in said
    assert said.count("\n") == 1 and not (tmp_path / "out.nii").exists()


def people(folder):
    """Three scans in two folders, and files that are no scans."""
    for name, seed in (("sub-01/anat/sub-01_T1w.nii.gz", 2), ("sub-02/anat/sub-02_T1w.nii", 3), ("extra.nii.gz", 4)):
        save(folder / name, scan_values(seed))
    save(folder / "sub-01/anat/sub-01_desc-brain_mask.nii.gz", scan_values() > 0)
    save(folder / "sub-01/anat/sub-01_dseg.nii.gz", scan_values() > 0)
    (folder / "notes.txt").write_text("no scan")
    (folder / "._extra.nii.gz").write_text("what some systems leave beside a file")
    return folder


def files_below(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_is_mirrored_by_one_process_and_by_two(tmp_path, capsys, target):
    folder = people(tmp_path / "in")
    call = ["harmonize", "--method", "affine-match", "--reference", target, folder]
    assert run(*call, tmp_path / "one") == 0
    assert run(*call, tmp_path / "deep" / "two", "--jobs", 2) == 0
    one, two = files_below(tmp_path / "one"), files_below(tmp_path / "deep" / "two")
    assert set(one) == {
        "dataset_description.json",
        "sub-01/anat/sub-01_desc-affinematch_T1w.nii.gz",
        "sub-01/anat/sub-01_desc-affinematch_T1w.json",
        "sub-02/anat/sub-02_desc-affinematch_T1w.nii",
        "sub-02/anat/sub-02_desc-affinematch_T1w.json",
    }
    for name in one:
        if name.endswith("1w.json"):
            own = [json.loads(files[name])["HarmonyLite"] for files in (one, two)]
            assert "--jobs 2" in own[1].pop("command") and "--jobs" not in own[0].pop("command") and own[0] == own[1]
        else:
            assert one[name] == two[name], "the number of processes does not matter"
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        f"2 of 2 scans by affine-match, variant volume, to {target}",
        "1 files without a BIDS name, 2 masks and labels",
        "coverage (2 scans); the JSON beside each result says more",
    ] * 2


def test_an_output_folder_inside_the_input_is_not_read_again(tmp_path, target):
    folder = people(tmp_path / "in")
    for _ in range(2):
        call = ["harmonize", "--method", "percentile", "--reference", target, folder, folder / "derivatives"]
        assert run(*call) == 0
    assert len(files_below(folder / "derivatives")) == 2 * 2 + 1, "two scans, their records, and the description"


@pytest.mark.parametrize("jobs", [1, 2])
def test_one_bad_scan_does_not_stop_the_others(tmp_path, capsys, target, jobs):
    folder = people(tmp_path / "in")
    save(folder / "bad" / "sub-03_T1w.nii.gz", np.full(SHAPE, 5))
    call = ["harmonize", "--method", "percentile", "--reference", target, folder, tmp_path / "out", "--jobs", jobs]
    assert run(*call) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and "sub-03_T1w.nii.gz: found all voxels at 5" in captured.err
    assert "2 of 3 scans" in captured.out and "failed: 1 of 3" in captured.out
    assert len(files_below(tmp_path / "out")) == 2 * 2 + 1
    assert not (tmp_path / "out" / "bad").exists(), "no empty folder is left for it"


def test_evaluate(tmp_path, capsys, source):
    save(tmp_path / "brain.nii", scan_values() > 0)
    noisy = save(tmp_path / "noisy.nii.gz", scan_values(0) + 40 * (scan_values(5) > 0))
    assert run("evaluate", noisy, source, "--mask", tmp_path / "brain.nii", "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert set(values) == {"psnr", "ssim", "ncc", "wasserstein"}
    low, high = np.percentile(nib.load(source).get_fdata()[scan_values() > 0], [1, 99])
    assert values["psnr"] == pytest.approx(20 * np.log10((high - low) / 40), abs=0.2)
    assert values["wasserstein"] == pytest.approx(40 / (high - low), rel=0.02)
    assert values["ncc"] > 0.999 and 0.5 < values["ssim"] < 1

    assert run("evaluate", noisy, source) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["psnr", "ssim", "ncc", "wasserstein"]
    assert lines[0].endswith("dB")
    assert run("evaluate", source, source, "--json") == 0
    same = json.loads(capsys.readouterr().out)
    assert same["psnr"] is None and same["wasserstein"] == 0 and same["ssim"] == pytest.approx(1)


def test_methods(capsys):
    assert run("methods") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == methods.names()
    on_the_models_grid = [line.split()[0] for line in lines if " the model's " in line]
    assert on_the_models_grid == [name for name in methods.names() if methods.method_class(name).on_template_grid]
    assert "mispel" in on_the_models_grid and "nyul" not in on_the_models_grid
    assert run("methods", "--json") == 0
    for row in json.loads(capsys.readouterr().out):
        assert set(row) == {"name", "needs", "variants", "shipped"}
        assert row["variants"] == list(methods.method_class(row["name"]).variants)


def test_simulate_writes_a_cohort(tmp_path, capsys):
    out = tmp_path / "people"
    out.mkdir()  # an empty folder is as good as none
    assert run("simulate", out, "--subjects", 1, "--scanners", "oasis_trio,vision", "--spacing", 4, "--seed", 3) == 0
    assert "1 subjects on" in capsys.readouterr().out
    assert (out / "sub-001/ses-oasistrio/anat/sub-001_ses-oasistrio_T1w.nii.gz").is_file()
    read = Cohort.from_files(out)
    made = Cohort.simulate(subjects=1, scanners=["oasis_trio", "oasis_vision"], spacing=4.0, seed=3)
    assert set(read.scanners) == {"oasis_trio", "oasis_vision"}
    for scanner in made.scanners:
        assert torch.equal(read.scans(scanner), made.scans(scanner))
    assert torch.equal(read.mask, made.mask) and torch.equal(read.labels, made.labels)
    assert float(read.ages[0]) == pytest.approx(float(made.ages[0]), abs=0.06)
    assert [path.name for path in tmp_path.iterdir()] == ["people"]


def test_a_simulation_that_fails_leaves_nothing(tmp_path, monkeypatch, capsys):
    def broken(self, folder):
        (Path(folder) / "half.nii.gz").write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Cohort, "to_files", broken)
    assert run("simulate", tmp_path / "people", "--subjects", 1, "--spacing", 4) == 2
    assert "interrupted" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [[], ["simulate"], ["methods"], ["harmonize"], ["evaluate"]])
def test_help_is_there(capsys, command):
    with pytest.raises(SystemExit) as finished:
        cli.main([*command, "--help"])
    assert finished.value.code == 0
    text = capsys.readouterr().out
    assert "usage: harmony-lite" in text and max(map(len, text.splitlines())) <= 120


def test_help_loads_no_heavy_library():
    code = (
        "import sys; from harmony_lite import cli; cli._parser()\n"
        "print([name for name in ('torch', 'pandas', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_fault_of_ours_is_1_and_keeps_its_traceback(tmp_path, source):
    code = (
        "import sys; from harmony_lite import cli; from harmony_lite.images import nifti\n"
        "def broken(path): raise RuntimeError('a fault of the program')\n"
        "nifti.read = broken\n"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    call = [sys.executable, "-c", code, "evaluate", str(source), str(source)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" in done.stderr and "a fault of the program" in done.stderr
