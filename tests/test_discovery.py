"""Methods, papers, exercises and results are found, not listed: somebody else's package, and a new paper's folder."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import made_paper
import pytest

import harmony_lite

PACKAGE = Path(harmony_lite.__file__).parent

METHOD = '''
"""A method of somebody else: every image times a gain, so that its mean is the target's."""

import torch

from harmony_lite.cohort import Needs
from harmony_lite.methods import Harmonizer


class MeanMatch(Harmonizer):
    name = "mean-match"
    needs = Needs.TARGET_ONLY
    variants = ("volume",)
    shipping = None
    reference_is_enough = True

    def __init__(self, settings=None):
        self.settings, self._mean = settings, None

    @classmethod
    def from_variant(cls, variant):
        return cls()

    def fit(self, view, *, generator=None):
        scans = view.reference if hasattr(view, "reference") else view.target
        self._mean = scans.images[scans.mask].mean()
        return self

    def _harmonize(self, images, mask, scanner):
        means = torch.stack([image[inside].mean() for image, inside in zip(images, mask)])
        return images * (self._mean / means)[:, None, None, None, None]

    @property
    def is_fitted(self):
        return self._mean is not None

    def state(self):
        return {"mean": self._mean[None]}

    def load_state(self, state):
        self._mean = state["mean"][0]
        return self
'''
REPORT = """
import harmony_lite as hl
cohort = hl.Cohort.simulate(2, ["trio", "sonata"], spacing=4.0, seed=3)
method = hl.load_method("mean-match", fitted=False).fit(cohort.view("target only"))
table = hl.report(method, cohort)
print(len(table), sorted(set(table.measure)), bool(table.value.notna().all()))
"""


def run(code, folder, *arguments):
    """A process that finds the packages in a folder before the installed ones."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "TQDM_DISABLE": "1"}
    command = [sys.executable, *(["-c", code] if code else ["-m", "harmony_lite.cli"]), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder)


@pytest.fixture
def somebody_elses(tmp_path):
    """A folder with an installed package of one method, as pip leaves it: code, and metadata with the entry point."""
    (tmp_path / "their_package").mkdir()
    (tmp_path / "their_package" / "__init__.py").write_text(METHOD)
    metadata = tmp_path / "their_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[harmony_lite.methods]\nmean-match = their_package:MeanMatch\n")
    shutil.copytree(PACKAGE, tmp_path / "harmony_lite", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_a_method_of_another_package_is_listed_harmonizes_and_is_reported_on(somebody_elses):
    listed = run(None, somebody_elses, "methods")
    assert listed.returncode == 0, listed.stderr
    (line,) = [line for line in listed.stdout.splitlines() if line.startswith("mean-match ")]
    assert "target only" in line
    made = run(None, somebody_elses, "simulate", "people", "--subjects", 1, "--spacing", 4)
    assert made.returncode == 0, made.stderr
    target, source = (
        next((somebody_elses / "people" / "sub-001" / session / "anat").glob("*_T1w.nii.gz"))
        for session in ("ses-oasistrio", "ses-oasisvision")
    )
    done = run(None, somebody_elses, "harmonize", "--method", "mean-match", "--reference", target, source, "out.nii.gz")
    assert done.returncode == 0, done.stderr
    assert "by mean-match, variant volume" in done.stdout and (somebody_elses / "out.nii.gz").is_file()
    reported = run(REPORT, somebody_elses)
    assert reported.returncode == 0, reported.stderr
    assert reported.stdout.strip() == "8 ['ncc', 'psnr', 'ssim', 'wasserstein'] True"


def test_a_name_that_is_taken_is_refused(somebody_elses):
    points = somebody_elses / "their_package-1.0.dist-info" / "entry_points.txt"
    points.write_text("[harmony_lite.methods]\nnyul = their_package:MeanMatch\n")
    listed = run(None, somebody_elses, "methods")
    assert listed.returncode == 2 and "method nyul: found two" in listed.stderr


def test_a_package_that_does_not_load_is_named_when_its_method_is_asked_for(somebody_elses):
    (somebody_elses / "their_package" / "__init__.py").write_text("import a_module_that_is_nowhere\n")
    asked = run("import harmony_lite as hl; hl.load_method('mean-match')", somebody_elses)
    assert "method mean-match: found nothing at their_package:MeanMatch" in asked.stderr
    others = run("import harmony_lite as hl; print(hl.load_method('nyul').name)", somebody_elses)
    assert others.stdout.strip() == "nyul", others.stderr


# ---------------------------------------------------------------------------------------------------------- a new paper

EXPERIMENT = '''
"""A paper that is made for a test.

One row on one scanner.
"""

from harmony_lite.evaluate.measuring import Compared

PEOPLE_ON, FITS = ("oasis_trio", "oasis_vision"), ()


def measure(person, fitted):
    yield from Compared("ours", person.scans("oasis_vision")).cells("Table 1", "Vision", {"psnr": 21.0})
'''
EXERCISE = """
from harmony_lite.exercises import Exercise, Property, register

register(Exercise("90.1", "Double", 1, (Property("doubles", lambda f: f(2) == 4),), ("a", "b", "c")))
"""
HEAD = {
    "place": "Table 1", "measure": "psnr", "condition": "Vision", "tier": "ii", "method": "", "variant": "", "by": "",
    "weights": "",
}  # fmt: skip
ASK = """
import json
from harmony_lite import exercises, ledger, methods
from harmony_lite.ledger import pages
from harmony_lite.papers import experiments, published
paper = published.load("throwaway")
rows = [row for row in ledger.rows("quick") if row.paper == "throwaway"]
made = pages.pages("\\n".join(pages.MARKERS), "quick")
print(json.dumps({
    "papers": published.names(), "exercises": [e for e in exercises.names() if e.startswith("90")],
    "rows": [[row.id, row.verdict, row.ours and row.ours["mean"]] for row in rows],
    "method": "throwaway-gain" in methods.names(), "computed": experiments.computed_papers(),
    "people": len(experiments.people_of("throwaway")), "page": made["ledger_throwaway.md"], "front": made["ledger.md"],
}))
"""


def test_a_new_papers_folder_is_seen_by_ledger_exercises_results_and_index(tmp_path):
    package = tmp_path / "harmony_lite"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    folder = package / "papers" / "throwaway"
    folder.mkdir()
    places = "METHODS = {'throwaway-gain': 'harmony_lite.papers.throwaway.method:Gain'}"
    (folder / "__init__.py").write_text(f'"""A paper that is made for a test."""\n\n{places}\n')
    (folder / "published.toml").write_text(made_paper.TOML)
    (folder / "experiment.py").write_text(EXPERIMENT)
    (folder / "exercises_90.py").write_text(EXERCISE)
    rows = [
        {**HEAD, "row": row, "mean": mean, "low": mean - 1, "high": mean + 1, "values": [mean, mean]}
        for row, mean in (("ours", 21.0), ("theirs", 18.0))
    ]
    made = {"command": "make ledger", "commit": "0" * 40, "hardware": "h", "date": "2026-01-01", "seed": 0, "slices": 1,
            "minutes of measuring": 1, "spacing mm": 2, "training people": 1, "people": ["a", "b"]}  # fmt: skip
    numbers = {"mean": 3.0, "low": 2.0, "high": 4.0, "people": 2, "comparisons": 1, "held": 1, "weakest": "x"}
    results = {"made": made, "rows": rows, "claims": {"ours-better": {"verdict": "holds here", **numbers}}}
    (folder / "results.quick.json").write_text(json.dumps(results))
    asked = run(ASK, tmp_path)
    assert asked.returncode == 0, asked.stderr
    seen = json.loads(asked.stdout)
    assert seen["papers"][-1] == "throwaway" and seen["computed"][-1] == "throwaway"
    assert seen["exercises"] == ["90.1"] and seen["method"] and seen["people"] == 3
    assert seen["rows"] == [
        ["ours-better", "holds here", 3.0],
        ["looks-alike", None, None],
        ["Table 1 | psnr | ours | Vision", None, 21.0],
        ["Table 1 | psnr | theirs | Vision", None, 18.0],
    ]
    assert "# Ledger: Throw Away" in seen["page"] and "One row on one scanner." in seen["page"]
    assert "`harmony_lite.papers.throwaway.experiment.measure`" in seen["page"]  # the index
    assert "[Throw Away](ledger_throwaway.md)" in seen["front"]
    printed = run(None, tmp_path, "ledger", "throwaway")
    assert printed.returncode == 0 and "throwaway: 2 claims, 1 with a verdict" in printed.stdout, printed.stderr
