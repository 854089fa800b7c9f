"""A folder of scans through `harmonize`: which files, by whom, what stays, what is said; and nothing silently lost."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest

from harmony_lite import cli
from harmony_lite.cohort import Cohort
from harmony_lite.own_scans.found import scans_in
from harmony_lite.own_scans.records import record_of, record_path

METHOD = ["harmonize", "--method", "histogram-matching"]
SCANNERS = ["oasis_trio", "oasis_vision", "mispel_ge", "hail_b", "abide_nyu"]


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


def ball(seed=0, shape=(20, 22, 24), gain=1.0):
    rng = np.random.default_rng(seed)
    radius = np.sqrt(sum(axis**2 for axis in np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")))
    return np.where(radius < 0.9, gain * (np.where(radius < 0.5, 800, 400) + rng.normal(0, 30, shape)), 0)


def save(path, data, affine=None, dtype=np.int16):
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([2.0, 2.0, 2.0, 1.0]) if affine is None else affine
    nib.save(nib.Nifti1Image(np.asarray(data).astype(dtype), affine), path)
    return path


def results(folder):
    """Bytes of every image below a folder, by its path there."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.nii*")}


def start(*arguments, cwd, **environment):
    root = str(Path(cli.__file__).parents[1])
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", "harmony_lite.cli", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": paths, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: [signal.signal(name, signal.SIG_DFL) for name in (signal.SIGINT, signal.SIGHUP)],
    )


def children_of(process):
    """Process ids of a process's children that harmonize; the helper of multiprocessing's own is none of them."""
    children = psutil.Process(process.pid).children()
    return [child.pid for child in children if "spawn_main" in " ".join(child.cmdline())]


def is_alive(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


# ----------------------------------------------------------------------------------------- forty scans, three ways


@pytest.fixture(scope="module")
def forty(tmp_path_factory):
    """Eight people on five scanners at 2 mm; one scan is torn, one holds NaN in the brain, one has five slices."""
    folder = tmp_path_factory.mktemp("forty")
    Cohort.simulate(8, SCANNERS, spacing=2.0, seed=12, jobs=2).to_files(folder)
    scans = sorted(folder.glob("sub-*/ses-*/anat/*_T1w.nii.gz"))
    assert len(scans) == 40
    torn, with_nan, few = scans[3], scans[17], scans[31]
    torn.write_bytes(torn.read_bytes()[:20_000])
    image = nib.load(with_nan)
    data = image.get_fdata()
    data[tuple(np.argwhere(data > 0)[1000])] = np.nan
    nib.save(nib.Nifti1Image(data.astype(np.float32), image.affine), with_nan)
    image = nib.load(few)
    nib.save(image.slicer[:, :, 30:35], few)
    return folder, (torn, with_nan, few)


@pytest.fixture(scope="module")
def by_two_processes(forty, tmp_path_factory):
    out = tmp_path_factory.mktemp("results") / "out"
    process = start(*METHOD, "--jobs", 2, forty[0], out, cwd=forty[0])
    said = process.communicate(timeout=400)
    return out, process.returncode, said


def test_bad_scans_cost_themselves_alone_and_are_listed(forty, by_two_processes):
    folder, (torn, with_nan, few) = forty
    out, status, (printed, complaints) = by_two_processes
    assert status == 2 and "37 of 40 scans" in printed and "failed: 3 of 40" in printed
    lines = [line for line in complaints.splitlines() if "error:" in line]
    assert len(lines) == 3
    assert f"{torn}: found a truncated or damaged gzip file" in lines[0]
    assert f"{with_nan}: found 1 voxels that are NaN or infinite" in lines[1]
    assert f"{few}: found shape (80, 96, 5), wanted at least 8 voxels" in lines[2]
    assert len(results(out)) == 37 and not list(out.rglob(".part-*"))
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative" and description["GeneratedBy"][0]["Name"] == "harmony-lite"


def test_a_cluster_of_two_workers_gives_the_same(forty, by_two_processes, tmp_path, capsys):
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True) as cluster:
        assert run(*METHOD, "--scheduler", cluster.scheduler_address, forty[0], tmp_path / "out") == 2
    said = capsys.readouterr()
    assert "37 of 40 scans" in said.out and said.err.count("error:") == 3
    assert results(tmp_path / "out") == results(by_two_processes[0])


def test_a_cluster_elsewhere_takes_paths_as_they_were_typed(tmp_path, monkeypatch, capsys):
    """Its workers were started in another folder than the one that relative paths begin in."""
    from distributed import LocalCluster

    save(tmp_path / "here/in/a.nii.gz", ball())
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    with LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None, processes=True) as cluster:
        monkeypatch.chdir(tmp_path / "here")
        assert run("harmonize", "--method", "percentile", "--scheduler", cluster.scheduler_address, "in", "out") == 0
    assert "out: 1 of 1 scans" in capsys.readouterr().out and (tmp_path / "here/out/a.nii.gz").is_file()


def test_no_scheduler_is_said_in_a_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("harmony_lite.own_scans.cluster.PATIENCE", "1s")
    save(tmp_path / "in" / "a.nii.gz", ball())
    assert run(*METHOD, "--scheduler", "tcp://127.0.0.1:9", tmp_path / "in", tmp_path / "out") == 2
    assert "--scheduler: found no Dask scheduler at tcp://127.0.0.1:9, wanted one that" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_rerun_does_what_is_missing(forty, by_two_processes, capsys):
    """Two results are gone, one was cut short, one was made of another scan: these four are made again."""
    folder, out = forty[0], by_two_processes[0]
    before = results(out)
    made = sorted(out.rglob("*_T1w.nii.gz"))
    made[0].unlink()
    record_path(made[5]).unlink()
    made[9].write_bytes(made[9].read_bytes()[:-10])
    source = folder / next(Path(record_of(made[12])["Sources"][0]).relative_to(folder).as_posix() for _ in (0,))
    image = nib.load(source)
    nib.save(nib.Nifti1Image((image.get_fdata() * 1.5).astype(np.float32), image.affine), source)
    untouched = {path: path.stat().st_mtime_ns for path in made[13:]}
    assert run(*METHOD, folder, out) == 2
    assert "4 of 40 scans" in (said := capsys.readouterr().out) and "33 were there" in said
    assert all(path.stat().st_mtime_ns == when for path, when in untouched.items())
    after = results(out)
    name = str(made[12].relative_to(out))
    assert {key: value for key, value in after.items() if key != name} == {k: v for k, v in before.items() if k != name}
    assert run(*METHOD, folder, out) == 2 and "0 of 40 scans" in capsys.readouterr().out


# ------------------------------------------------------------------------------------- killed, hung up, interrupted


@pytest.fixture
def twelve(tmp_path):
    """Scans large enough to be caught at work."""
    for number in range(12):
        save(tmp_path / "in" / f"{number:02d}.nii.gz", ball(number, (110, 112, 114)))
    save(tmp_path / "ref.nii.gz", ball(99, gain=2.0))
    return tmp_path


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return found


def test_a_killed_worker_costs_nothing(twelve):
    process = start(*METHOD, "--reference", "ref.nii.gz", "--jobs", 2, "in", "out", cwd=twelve)
    wait_for(lambda: list((twelve / "out").glob("*.nii.gz")) or process.poll() is not None)
    workers = children_of(process)
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    printed, complaints = process.communicate(timeout=300)
    assert process.returncode == 0, complaints
    assert "12 of 12 scans" in printed and len(results(twelve / "out")) == 12
    assert not list(twelve.rglob(".part-*"))


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_leaves_no_part_and_no_process_and_goes_on(twelve, number):
    process = start(*METHOD, "--reference", "ref.nii.gz", "--jobs", 2, "in", "out", cwd=twelve)
    wait_for(lambda: list((twelve / "out").glob(".part-*.nii.gz")) or process.poll() is not None)
    workers = children_of(process)
    assert len(workers) == 2
    process.send_signal(number)
    _, complaints = process.communicate(timeout=120)
    assert process.returncode == 2 and complaints.strip().splitlines()[-1].startswith(
        "harmony-lite: error: interrupted"
    )
    wait_for(lambda: not any(map(is_alive, workers)), 30)
    assert not list(twelve.rglob(".part-*"))
    there = len(results(twelve / "out"))
    assert there < 12
    again = start(*METHOD, "--reference", "ref.nii.gz", "--jobs", 2, "in", "out", cwd=twelve)
    printed, complaints = again.communicate(timeout=300)
    assert again.returncode == 0, complaints
    done = int(printed.split(" of 12 scans")[0].rsplit(" ", 1)[1])
    assert 12 - there <= done <= 12 - there + 2, "those that were finished are left alone"


def test_a_terminal_that_is_closed_on_a_program_started_to_outlive_it(twelve):
    """`nohup` has it ignored, and the run goes on to its end."""
    program = [sys.executable, "-m", "harmony_lite.cli", *METHOD, "--reference", "ref.nii.gz", "--jobs", "2"]
    process = subprocess.Popen(
        ["nohup", *program, "in", "out"],
        cwd=twelve,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: list((twelve / "out").glob("*.nii.gz")) or process.poll() is not None)
    process.send_signal(signal.SIGHUP)
    printed, complaints = process.communicate(timeout=300)
    assert process.returncode == 0, complaints
    assert "12 of 12 scans" in printed


# --------------------------------------------------------------------------------------------- which files are scans


def test_what_is_a_scan_in_a_bids_tree(tmp_path, capsys):
    folder = tmp_path / "tree"
    for name in ("sub-01/anat/sub-01_T1w.nii.gz", "sub-02/ses-a/anat/sub-02_ses-a_run-2_T1w.nii"):
        save(folder / name, ball(1))
    save(folder / "sub-01/anat/sub-01_desc-brain_mask.nii.gz", ball() > 0, dtype=np.uint8)
    for name in (
        "sub-01/anat/sub-01_T2w.nii.gz",
        "sub-01/anat/sub-01_dseg.nii.gz",
        "sub-01/func/sub-01_task-rest_bold.nii.gz",
        "sourcedata/sub-01/anat/sub-01_T1w.nii.gz",
        "derivatives/other/sub-01/anat/sub-01_T1w.nii.gz",
        "localizer.nii.gz",
        ".git/annex/sub-01_T1w.nii.gz",
        "sub-01/anat/._sub-01_T1w.nii.gz",
    ):
        save(folder / name, ball(2))
    found = scans_in(folder)
    assert [(path.name, mask and mask.name) for path, mask in found.scans] == [
        ("sub-01_T1w.nii.gz", "sub-01_desc-brain_mask.nii.gz"),
        ("sub-02_ses-a_run-2_T1w.nii", None),
    ]
    assert dict(found.left_out) == {
        "masks and labels": 2,
        "T2w": 1,
        "bold": 1,
        "folder sourcedata": 1,
        "folder derivatives": 1,
        "files without a BIDS name": 1,
    }
    assert [path.name for path, _ in scans_in(folder, suffix="T2w").scans] == ["sub-01_T2w.nii.gz"]
    assert [path.name for path, _ in scans_in(folder / "derivatives").scans] == ["sub-01_T1w.nii.gz"], "named"
    with pytest.raises(ValueError, match=r"found no scan in it \(.*\), wanted sub-\*_FLAIR.nii.gz, or --suffix T1w"):
        scans_in(folder, suffix="FLAIR")
    call = ["harmonize", "--method", "percentile", folder]
    assert run(*call, folder / "derivatives" / "mine") == 0
    assert run(*call, folder / "again") == 0
    said = capsys.readouterr().out
    assert said.count("2 of 2 scans") == 2 and said.count("1 T2w") == 2
    assert run(*call, folder / "third") == 0 and "1 folder of results" in capsys.readouterr().out
    assert (folder / "again/sub-02/ses-a/anat/sub-02_ses-a_run-2_desc-percentile_T1w.nii").is_file()


def test_a_mask_beside_a_scan_lets_a_whole_head_through(tmp_path, capsys):
    head = ball(1) + np.random.default_rng(0).uniform(1, 20, (20, 22, 24))
    save(tmp_path / "in/sub-01/anat/sub-01_T1w.nii.gz", head)
    call = ["harmonize", "--method", "percentile", tmp_path / "in"]
    assert run(*call, tmp_path / "a") == 2
    assert "found a whole head, and brains in the shipped weights of percentile" in capsys.readouterr().err
    mask = save(tmp_path / "in/sub-01/anat/sub-01_desc-brain_mask.nii.gz", ball() > 0, dtype=np.uint8)
    assert run(*call, tmp_path / "b") == 0
    (out,) = (tmp_path / "b").rglob("*.nii.gz")
    assert record_of(out)["HarmonyLite"]["mask"] == str(mask)


@pytest.mark.parametrize(
    ("masks", "taken"),
    [
        (["sub-01_ses-b_desc-brain_mask", "sub-01_desc-brain_mask"], "sub-01_ses-b_desc-brain_mask"),
        (["sub-01_ses-b_run-2_desc-brain_mask", "sub-01_ses-b_desc-brain_mask"], "sub-01_ses-b_run-2_desc-brain_mask"),
        (["sub-01_ses-b_space-orig_desc-brain_mask"], "sub-01_ses-b_space-orig_desc-brain_mask"),
        (["sub-01_ses-b_space-MNI152NLin6Asym_desc-brain_mask"], None),
        (["sub-01_ses-b_run-1_desc-brain_mask", "sub-02_ses-b_desc-brain_mask", "sub-01_ses-b_mask"], None),
    ],
)
def test_the_mask_of_a_scan(tmp_path, masks, taken):
    anat = tmp_path / "sub-01/ses-b/anat"
    scan = save(anat / "sub-01_ses-b_run-2_T1w.nii.gz", ball(1))
    for name in masks:
        save(anat / f"{name}.nii.gz", ball() > 0, dtype=np.uint8)
    ((path, mask),) = scans_in(tmp_path).scans
    assert path == scan and (mask and mask.name) == (taken and f"{taken}.nii.gz")


def test_links_are_followed_and_broken_ones_are_failures(tmp_path, capsys):
    elsewhere = save(tmp_path / "elsewhere/sub-02/anat/sub-02_T1w.nii.gz", ball(2)).parents[2]
    folder = tmp_path / "in"
    save(folder / "sub-01/anat/sub-01_T1w.nii.gz", ball(1))
    (folder / "sub-02").symlink_to(elsewhere / "sub-02")
    (folder / "sub-03").symlink_to(tmp_path / "nowhere")
    (folder / "sub-01/anat/sub-04_T1w.nii.gz").symlink_to("../gone.nii.gz")
    (folder / "round").symlink_to(folder)
    assert run("harmonize", "--method", "percentile", folder, tmp_path / "out") == 2
    said = capsys.readouterr()
    assert "2 of 4 scans" in said.out and "failed: 2 of 4" in said.out
    assert "sub-03: found a link to nothing" in said.err and "sub-04_T1w.nii.gz: found a link to nothing" in said.err
    assert len(results(tmp_path / "out")) == 2 and set(results(elsewhere)) == {"sub-02/anat/sub-02_T1w.nii.gz"}


def test_the_output_does_not_hold_the_input(tmp_path, capsys):
    save(tmp_path / "study/raw/a.nii.gz", ball())
    assert run("harmonize", "--method", "percentile", tmp_path / "study/raw", tmp_path / "study") == 2
    assert "found a folder that holds the input" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["with space", "ärztin", "-dash", "lat\udce4n1", "日本", "quote'\"", "semi;colon"])
def test_names_of_all_kinds(tmp_path, name):
    folder = tmp_path / "in"
    folder.mkdir()
    path = os.fsencode(folder / f"{name}.nii.gz")
    save(folder / "a.nii.gz", ball(1))
    os.rename(folder / "a.nii.gz", path)
    plain = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    call = ["harmonize", "--method", "percentile", "--report", "page.html", "--"]
    process = start(*call, "in", "out", cwd=tmp_path, **plain)
    printed, complaints = process.communicate(timeout=200)
    assert process.returncode == 0, complaints
    assert "1 of 1 scans" in printed and os.path.isfile(os.fsencode(tmp_path / "out" / f"{name}.nii.gz"))
    alone = start(*call, f"in/{name}.nii.gz", f"{name}-x.nii.gz", cwd=tmp_path, **plain)
    printed, complaints = alone.communicate(timeout=200)
    assert alone.returncode == 0, complaints


# --------------------------------------------------------------------------------------------------------- records


def test_what_decides_a_result_decides_a_rerun(tmp_path, capsys):
    save(tmp_path / "in/sub-01_T1w.nii.gz", ball(1))
    first, second = (save(tmp_path / f"{name}.nii.gz", ball(seed, gain=2)) for seed, name in enumerate("ab"))
    call = ["harmonize", "--method", "affine-match", tmp_path / "in", tmp_path / "out"]

    def done(*options):
        assert run(*call, *options) == 0
        return int(capsys.readouterr().out.split(" of 1 scans")[0].rsplit(" ", 1)[1])

    assert done("--reference", first) == 1 and done("--reference", first) == 0
    assert done("--reference", second) == 1, "another reference"
    assert done("--reference", second, "--variant", "slice") == 1, "another variant"
    assert done("--reference", second, "--variant", "slice", "--force") == 1
    assert done("--reference", second, "--variant", "slice") == 0
    save(tmp_path / "in/sub-01_desc-brain_mask.nii.gz", ball() > 500, dtype=np.uint8)
    assert done("--reference", second, "--variant", "slice") == 1, "a mask that was not there"


def test_another_version_makes_a_result_again(tmp_path, capsys, monkeypatch):
    save(tmp_path / "in/a.nii.gz", ball(1))
    call = ["harmonize", "--method", "percentile", tmp_path / "in", tmp_path / "out"]
    assert run(*call) == 0 and run(*call) == 0
    assert "0 of 1 scans" in capsys.readouterr().out
    monkeypatch.setattr("harmony_lite.own_scans.records.__version__", "99.0")
    assert run(*call) == 0 and "1 of 1 scans" in capsys.readouterr().out


def test_a_record_says_how_a_result_came_about(tmp_path, capsys):
    import hashlib

    source, out = save(tmp_path / "sub-01_T1w.nii.gz", ball(1)), tmp_path / "out.nii.gz"
    assert run("harmonize", "--method", "nyul", source, out) == 0
    warning = capsys.readouterr().err
    record = json.loads((tmp_path / "out.json").read_text())
    own = record["HarmonyLite"]
    assert own["command"] == f"harmony-lite harmonize --method nyul {source} {out}"
    assert own["identity"]["method"] == "nyul" and own["identity"]["variant"] == "volume"
    assert own["identity"]["input_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert own["output_sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert len(own["identity"]["weights_sha256"]) == 64
    assert own["warnings"] and f"warning: {source}: {own['warnings'][0]}" in warning
    assert record["GeneratedBy"][0]["Name"] == "harmony-lite" and record["SkullStripped"] is True


def test_a_json_of_somebody_else_is_not_written_over(tmp_path, capsys):
    source = save(tmp_path / "in.nii.gz", ball(1))
    (tmp_path / "out.json").write_text('{"EchoTime": 0.003}')
    assert run("harmonize", "--method", "percentile", source, tmp_path / "out.nii.gz") == 2
    assert "found out.json of another program beside it" in capsys.readouterr().err
    assert (tmp_path / "out.json").read_text() == '{"EchoTime": 0.003}' and not (tmp_path / "out.nii.gz").exists()


def test_a_data_set_of_somebody_else_is_not_described_anew(tmp_path, capsys):
    save(tmp_path / "in/a.nii.gz", ball(1))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/dataset_description.json").write_text('{"Name": "mine"}')
    assert run("harmonize", "--method", "percentile", tmp_path / "in", tmp_path / "out") == 2
    assert "found a data set of another program" in capsys.readouterr().err
    assert (tmp_path / "out/dataset_description.json").read_text() == '{"Name": "mine"}'
