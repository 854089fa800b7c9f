"""Whatever is wrong with what the user gives: one line that says so, exit status 2, and no file left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from harmony_lite import cli
from harmony_lite.images import nifti, nifti_bytes
from harmony_lite.own_scans import prepared

SHAPE = (12, 13, 14)
CORNER = np.pad(np.ones((6, 6, 6), bool), [(0, size - 6) for size in SHAPE])


def values(shape=SHAPE, seed=0):
    return np.random.default_rng(seed).integers(1, 1000, shape).astype(np.float32)


def save(path, data, affine=None):
    nib.save(nib.Nifti1Image(data, np.diag([2.0, 2.0, 2.0, 1.0]) if affine is None else affine), path)
    return path


def spoilt_by(value):
    data = values()
    data[3, 4, 5] = value
    return data


def cut(path):
    raw = save(path, values()).read_bytes()
    path.write_bytes(raw[: len(raw) // 2])


# what can be wrong with a file that should be a scan: how it is made, and what the message says was found and wanted
FILES = {
    "NaN": (lambda path: save(path, spoilt_by(np.nan)), "found 1 voxels that are NaN or infinite, wanted finite"),
    "Inf": (lambda path: save(path, spoilt_by(-np.inf)), "found 1 voxels that are NaN or infinite, wanted finite"),
    "constant": (lambda path: save(path, np.full(SHAPE, 7.0)), "found all voxels at 7, wanted an image with contrast"),
    "all zero": (lambda path: save(path, np.zeros(SHAPE)), "found all voxels zero, wanted an image with contrast"),
    "binary": (
        lambda path: save(path, (values() > 500).astype(np.uint8)),
        "found two values only, 0 and 1, wanted a scan and no mask of one",
    ),
    "in a unit of its own": (
        lambda path: save(path, values(), np.diag([2e-3, 2e-3, 2e-3, 1])),
        "found voxels of 0.002 x 0.002 x 0.002 mm, wanted edges of 0.05 to 20 mm",
    ),
    "4D": (lambda path: save(path, values((*SHAPE, 5))), "found a 4D image of shape (12, 13, 14, 5), wanted one 3D"),
    "2D": (lambda path: save(path, values((20, 20))), "found a 2D image of shape (20, 20"),
    "tiny": (lambda path: save(path, values((20, 20, 5))), "found shape (20, 20, 5), wanted at least 8 voxels"),
    "unreadable": (lambda path: path.write_text("this is no image"), "found 16 bytes that are no single-file NIfTI"),
    "empty": (lambda path: path.touch(), "found an empty file, wanted a NIfTI scan"),
    "truncated": (cut, "found a truncated or damaged gzip file, wanted a complete one"),
    "a folder": (lambda path: path.mkdir(), "found a folder, wanted a NIfTI scan"),
    "missing": (lambda path: None, "found no such file, wanted a NIfTI scan"),
}
# where it can be given: the command, with BAD for the file
PLACES = {
    "input": ["harmonize", "--method", "affine-match", "--reference", "good.nii.gz", "BAD", "out.nii.gz"],
    "reference": ["harmonize", "--method", "histogram-matching", "--reference", "BAD", "good.nii.gz", "out.nii.gz"],
    "harmonized": ["evaluate", "BAD", "good.nii.gz"],
    "compared with": ["evaluate", "good.nii.gz", "BAD"],
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with good.nii.gz, other.nii.gz and mask.nii.gz on one grid."""
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "good.nii.gz", values())
    save(tmp_path / "other.nii.gz", values(seed=1))
    save(tmp_path / "mask.nii.gz", (values() > 300).astype(np.uint8))
    return tmp_path


def everything(folder):
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def expect_refusal(capsys, folder, argv, message):
    before = everything(folder)
    assert cli.main([str(argument) for argument in argv]) == 2
    captured = capsys.readouterr()
    check_line(captured.err, message)
    assert captured.out == ""
    assert everything(folder) == before, "no file is made, changed or left half written"


def check_line(stderr, message):
    assert stderr.startswith("harmony-lite: error: ") and stderr.count("\n") == 1, stderr
    assert "Traceback" not in stderr
    assert message in stderr, stderr


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_scan(folder, capsys, kind, place):
    make, message = FILES[kind]
    make(folder / "bad.nii.gz")
    if kind == "a folder" and place == "input":
        message = "found a file, wanted a folder"  # an input folder asks for an output folder
        (folder / "out.nii.gz").touch()
    if kind == "missing" and place == "input":
        message = "found no such file or folder, wanted a NIfTI scan"
    argv = ["bad.nii.gz" if argument == "BAD" else argument for argument in PLACES[place]]
    expect_refusal(capsys, folder, argv, message)


@pytest.mark.parametrize("kind", FILES)
def test_the_message_names_the_file(folder, capsys, kind):
    FILES[kind][0](folder / "bad.nii.gz")
    expect_refusal(capsys, folder, ["evaluate", "bad.nii.gz", "good.nii.gz"], "error: bad.nii.gz: found ")


def test_a_reference_that_cannot_be_aligned_is_named(folder, capsys, monkeypatch):
    def refuse(*_):
        raise ValueError("mask: found no brain, wanted one to align")

    monkeypatch.setattr(prepared, "on_model_grid", refuse)
    argv = ["harmonize", "--method", "style-transfer", "--reference", "other.nii.gz", "good.nii.gz", "out.nii.gz"]
    expect_refusal(capsys, folder, argv, "--reference other.nii.gz: mask: found no brain, wanted one to align")


def far(folder):
    """A scan and a mask on other grids than good.nii.gz."""
    save(folder / "longer.nii.gz", values((12, 13, 15)))
    shifted = np.diag([2.0, 2.0, 2.0, 1.0])
    shifted[0, 3] = 1.0
    save(folder / "shifted.nii.gz", values(), shifted)


def full_folder(folder):
    (folder / "scans").mkdir()
    save(folder / "scans" / "one.nii.gz", values())


HARMONIZE = ["harmonize", "--method", "affine-match", "--reference", "other.nii.gz"]
CASES = {
    "mask on a longer grid": (
        far,
        [*HARMONIZE, "--mask", "longer.nii.gz", "good.nii.gz", "out.nii"],
        "found grid 12x13x15",
    ),
    "mask on a shifted grid": (
        far,
        [*HARMONIZE, "--mask", "shifted.nii.gz", "good.nii.gz", "out.nii"],
        "wanted that of good",
    ),
    "reference mask on another grid": (
        far,
        [*HARMONIZE, "--reference-mask", "shifted.nii.gz", "good.nii.gz", "out.nii"],
        "wanted that of other.nii.gz",
    ),
    "evaluate on two grids": (far, ["evaluate", "longer.nii.gz", "good.nii.gz"], "found grid 12x13x15"),
    "evaluate on shifted grids": (
        far,
        ["evaluate", "good.nii.gz", "shifted.nii.gz"],
        "harmonized scan good.nii.gz: found",
    ),
    "evaluate with a mask elsewhere": (
        far,
        ["evaluate", "good.nii.gz", "other.nii.gz", "--mask", "shifted.nii.gz"],
        "mask shifted.nii.gz: found grid",
    ),
    "empty mask": (
        lambda folder: save(folder / "none.nii.gz", np.zeros(SHAPE, np.uint8)),
        [*HARMONIZE, "--mask", "none.nii.gz", "good.nii.gz", "out.nii"],
        "none.nii.gz: found no voxel above 0.5",
    ),
    "mask without contrast inside": (
        lambda folder: (
            save(folder / "flat.nii.gz", np.where(CORNER, 7.0, values())),
            save(folder / "one.nii.gz", CORNER.astype(np.uint8)),
        ),
        [*HARMONIZE, "--mask", "one.nii.gz", "flat.nii.gz", "out.nii"],
        "flat.nii.gz: images: found image 0 constant",
    ),
    "mask of two voxels": (
        lambda folder: save(folder / "two.nii.gz", (np.cumsum(np.ones(SHAPE)).reshape(SHAPE) < 3).astype(np.uint8)),
        [*HARMONIZE, "--mask", "two.nii.gz", "good.nii.gz", "out.nii"],
        "two.nii.gz: found a mask of 2 voxels, wanted a brain's, at least 100",
    ),
    "mask missing": (
        None,
        [*HARMONIZE, "--mask", "no.nii.gz", "good.nii.gz", "out.nii"],
        "no.nii.gz: found no such file",
    ),
    "reference mask without reference": (
        None,
        ["harmonize", "--method", "percentile", "--reference-mask", "mask.nii.gz", "good.nii.gz", "out.nii"],
        "found no --reference, wanted",
    ),
    "unknown method": (
        None,
        ["harmonize", "--method", "magic", "--reference", "other.nii.gz", "good.nii.gz", "out.nii"],
        "method: found 'magic', wanted one of affine-match",
    ),
    "unknown variant": (
        None,
        [*HARMONIZE, "--variant", "magic", "good.nii.gz", "out.nii"],
        "variant of affine-match: found 'magic', wanted one of volume, slice",
    ),
    "unknown scanner": (
        None,
        [*HARMONIZE, "--scanner", "toy", "good.nii.gz", "out.nii"],
        "scanner: found 'toy', wanted",
    ),
    "unknown scanner to simulate": (
        None,
        ["simulate", "people", "--scanners", "oasis_trio,toy"],
        "scanner: found 'toy'",
    ),
    "a scanner twice": (None, ["simulate", "people", "--scanners", "trio,oasis_trio"], "none twice"),
    "output is the input": (None, [*HARMONIZE, "good.nii.gz", "good.nii.gz"], "found one of the input files"),
    "output is the input by another way": (
        None,
        [*HARMONIZE, "good.nii.gz", "./../DIR/good.nii.gz"],
        "found one of the input",
    ),
    "output is the reference": (None, [*HARMONIZE, "good.nii.gz", "other.nii.gz"], "found one of the input files"),
    "output is the mask": (
        None,
        [*HARMONIZE, "--mask", "mask.nii.gz", "good.nii.gz", "mask.nii.gz"],
        "found one of the input files",
    ),
    "output is no NIfTI name": (
        None,
        [*HARMONIZE, "good.nii.gz", "out.png"],
        "wanted one that ends in .nii or .nii.gz",
    ),
    "output in no folder": (
        None,
        [*HARMONIZE, "good.nii.gz", "no/out.nii"],
        "found no folder no, wanted one that exists",
    ),
    "output below a file": (
        None,
        [*HARMONIZE, "good.nii.gz", "other.nii.gz/out.nii"],
        "found a file at other.nii.gz, wanted a",
    ),
    "output is a folder": (
        lambda folder: (folder / "out.nii").mkdir(),
        [*HARMONIZE, "good.nii.gz", "out.nii"],
        "found a folder, wanted a file name",
    ),
    "a file where the output folder should be": (
        full_folder,
        [*HARMONIZE, "scans", "mask.nii.gz"],
        "output mask.nii.gz: found a file, wanted a folder",
    ),
    "output folder is the input folder": (
        full_folder,
        [*HARMONIZE, "scans", "scans"],
        "found the input folder, wanted another",
    ),
    "a folder without scans": (
        lambda folder: (folder / "none").mkdir(),
        [*HARMONIZE, "none", "out"],
        "none: found no scan in it, wanted files that end in .nii or .nii.gz",
    ),
    "simulate into a file": (None, ["simulate", "good.nii.gz"], "found a file, wanted a new or an empty folder"),
    "simulate into a full folder": (full_folder, ["simulate", "scans"], "found a folder that is not empty"),
    "simulate into no folder": (None, ["simulate", "no/people"], "wanted one that exists"),
    "no people": (None, ["simulate", "people", "--subjects", "0"], "found '0', wanted a whole number from 1"),
    "half a person": (None, ["simulate", "people", "--subjects", "1.5"], "found '1.5', wanted a whole number from 1"),
    "no voxels": (None, ["simulate", "people", "--spacing", "nan"], "found 'nan', wanted a number of mm above 0"),
    "no processes": (
        None,
        [*HARMONIZE, "--jobs", "0", "good.nii.gz", "out.nii"],
        "found '0', wanted a whole number from 1",
    ),
    "an empty scanner name": (
        None,
        ["simulate", "people", "--scanners", "trio,,vida"],
        "wanted names with commas between",
    ),
    "no method": (None, ["harmonize", "good.nii.gz", "out.nii"], "required: --method"),
    "unknown option": (None, [*HARMONIZE, "--magic", "good.nii.gz", "out.nii"], "unrecognized arguments: --magic"),
    "unknown command": (None, ["magic"], "invalid choice: 'magic'"),
    "no command": (None, [], "required: COMMAND"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake(folder, capsys, case):
    prepare, argv, message = CASES[case]
    if prepare:
        prepare(folder)
    expect_refusal(capsys, folder, [argument.replace("DIR", folder.name) for argument in argv], message)


def test_a_file_without_permission(folder, capsys, monkeypatch):
    """Said by the system in place of a mode, which does not stop everybody."""

    def refuse(path, mode):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(nifti_bytes, "open", refuse, raising=False)
    before = set(folder.iterdir())
    assert cli.main([*HARMONIZE, "good.nii.gz", "out.nii"]) == 2
    check_line(capsys.readouterr().err, "found a file that cannot be read (Permission denied), wanted a NIfTI scan")
    assert set(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("failure", "message"),
    [(KeyboardInterrupt(), "interrupted"), (OSError(28, "No space left on device"), "No space left on device")],
)
@pytest.mark.parametrize("existing", [False, True])
def test_an_interrupted_write(folder, capsys, monkeypatch, failure, message, existing):
    if existing:
        save(folder / "out.nii.gz", values(seed=5))
    whole = nifti._put

    def broken(file, *rest):
        whole(file, *rest)
        raise failure

    monkeypatch.setattr(nifti, "_put", broken)
    expect_refusal(capsys, folder, [*HARMONIZE, "good.nii.gz", "out.nii.gz"], message)


def test_an_interrupted_folder(folder, capsys, monkeypatch):
    """The first scan is there and whole, the second left no trace, the third was not begun."""
    (folder / "scans" / "deep").mkdir(parents=True)
    for name in ("a.nii.gz", "deep/b.nii.gz", "z.nii.gz"):
        save(folder / "scans" / name, values(seed=len(name)))
    whole, calls = nifti._put, []

    def broken(file, *rest):
        calls.append(file)
        whole(file, *rest)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(nifti, "_put", broken)
    assert cli.main([*HARMONIZE, "scans", "out"]) == 2
    check_line(capsys.readouterr().err, "interrupted")
    there = sorted(path.name for path in (folder / "out").rglob("*"))
    assert there == ["a.json", "a.nii.gz", "dataset_description.json"]
    nifti.read(folder / "out" / "a.nii.gz")


def start(*argv, cwd, **environment):
    root = str(Path(cli.__file__).parents[1])
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", "harmony_lite.cli", *map(str, argv)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": paths, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell starts what runs in its background with SIGINT ignored, and the tests may run there
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize(
    ("argv", "environment", "message"),
    [
        (["evaluate", "good.nii.gz", "no.nii.gz"], {}, "no.nii.gz: found no such file"),
        (["harmonize", "--method", "magic", "good.nii.gz", "out.nii.gz"], {}, "method: found 'magic'"),
        (
            ["harmonize", "--method", "percentile", "good.nii.gz", "out.nii.gz"],
            {"HARMONY_PROFILE": "huge"},
            "HARMONY_PROFILE: found 'huge', wanted one of quick, gpu, full, tiny",
        ),
    ],
)
def test_as_a_process_of_its_own(folder, argv, environment, message):
    before = everything(folder)
    process = start(*argv, cwd=folder, **environment)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2 and out == ""
    check_line(err, message)
    assert everything(folder) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_stopped_while_it_writes(folder, number):
    """The signal is sent when the unfinished file is seen; noise takes long enough to pack for that."""
    save(folder / "large.nii", values((160, 160, 160)))
    process = start(*HARMONIZE, "large.nii", "out.nii.gz", cwd=folder)
    while process.poll() is None and not list(folder.glob(".part-*")):
        time.sleep(0.002)
    assert process.poll() is None, process.communicate()[1]
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    check_line(err, "interrupted; no file was left half written")
    assert {path.name for path in folder.iterdir()} == {"good.nii.gz", "other.nii.gz", "mask.nii.gz", "large.nii"}
