"""The files that say what to install agree: pyproject.toml, constraints.txt, environment.yml, binder/, Makefile."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import nbformat
import pytest
import series
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from throwaway import write_series

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINES = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
PINS = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in LINES}
ASKED = [Requirement(text) for text in [*PROJECT["dependencies"], *sum(PROJECT["optional-dependencies"].values(), [])]]


def badges_module() -> object:
    spec = importlib.util.spec_from_file_location("badges", ROOT / "binder" / "badges.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def environment(name: str) -> tuple[list[str], list[str]]:
    """The conda and the pip dependencies of an environment file."""
    dependencies = yaml.safe_load((ROOT / name).read_text())["dependencies"]
    conda = [one for one in dependencies if isinstance(one, str)]
    return conda, sum((one["pip"] for one in dependencies if isinstance(one, dict)), [])


@pytest.mark.parametrize("line", LINES)
def test_a_constraint_is_a_name_and_a_public_version(line: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9][\w.-]*==[0-9][\w.]*", line)


def test_constraints_leave_the_accelerator_to_torch() -> None:
    assert len(PINS) == len(LINES)
    assert PINS["torch"] == "2.13.0"
    assert not [name for name in PINS if name.startswith(("nvidia", "cuda", "triton"))]


@pytest.mark.parametrize("asked", ASKED, ids=lambda one: one.name)
def test_what_pyproject_asks_for_is_pinned_within_its_bounds(asked: Requirement) -> None:
    assert Version(PINS[canonicalize_name(asked.name)]) in asked.specifier


@pytest.mark.parametrize("asked", ASKED, ids=lambda one: one.name)
def test_what_is_installed_is_what_is_pinned(asked: Requirement) -> None:
    found = Version(version(asked.name)).public
    assert found == PINS[canonicalize_name(asked.name)]


def test_environment_yml_agrees() -> None:
    conda, pip = environment("environment.yml")
    assert pip == ["-c constraints.txt", f"torch=={PINS['torch']}", "-e .[notebooks,book,test]"]
    assert sorted(PROJECT["optional-dependencies"]) == ["book", "cluster", "notebooks", "test"]
    (python,) = [one for one in conda if one.startswith("python=")]
    assert python.split("=")[1] in SpecifierSet(PROJECT["requires-python"])


def test_binder_is_lean_and_agrees() -> None:
    conda, pip = environment("binder/environment.yml")
    root_conda, _ = environment("environment.yml")
    assert (conda, pip) == (root_conda, [])
    lines = (ROOT / "binder" / "postBuild").read_text().splitlines()
    installs = [line for line in lines if "pip install" in line]
    assert len(installs) == 2
    assert all("--no-cache-dir" in line and "-c constraints.txt" in line for line in installs)
    assert f"torch=={PINS['torch']} " in installs[0] and "/whl/cpu" in installs[0]
    assert "'.[notebooks]'" in installs[1]
    assert "set -euo pipefail" in lines


def test_binder_start_hands_over_with_the_small_profile_and_one_thread() -> None:
    shown = 'echo "$HARMONY_PROFILE $OMP_NUM_THREADS"; echo "$@"'
    command = [str(ROOT / "binder" / "start"), "bash", "-c", shown, "bash", "two words", "c"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]})
    assert done.stdout == "quick 1\ntwo words c\n"


def test_makefile_installs_torch_first_and_from_the_index_that_is_given() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert f"TORCH := torch=={PINS['torch']}\n" in makefile
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    command = ["make", "-n", "-B", "setup", "TORCH_INDEX=https://index.example/cpu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=environment)
    first, second = [line for line in done.stdout.splitlines() if "pip install" in line]
    # beside the usual index, so that no pinned dependency is missed there
    assert "torch==2.13.0 -c constraints.txt --extra-index-url https://index.example/cpu" in first
    assert "-e '.[notebooks,book,test]' -c constraints.txt" in second
    assert "index-url" not in second


@pytest.mark.parametrize("name", [".ci/run", "binder/postBuild", "binder/start"])
def test_scripts_can_be_run_and_read_by_bash(name: str) -> None:
    assert os.access(ROOT / name, os.X_OK)
    subprocess.run(["bash", "-n", str(ROOT / name)], check=True)


def test_citation_names_the_five_papers() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["license"] == PROJECT["license"] == "MIT"
    titles = " ".join(reference["title"] for reference in citation["references"])
    words = ["BlindHarmony:", "3D blind", "Harmonizing Flows", "HAIL", "Multi-scanner"]
    assert len(citation["references"]) == 5
    assert all(word in titles for word in words)
    assert all(reference["authors"] and reference["year"] for reference in citation["references"])


def test_badges_are_stamped_for_a_fork_and_outputs_stay_up_to_date(tmp_path: Path) -> None:
    badges = badges_module()
    start, end = badges.MARKERS
    readme = tmp_path / "README.md"
    readme.write_text(f"a\n{start}\n{end}\nb\n")
    source = write_series(tmp_path / "series")
    text = source.read_text()
    source.write_text(text + '\n# %%\nFROM = "git+https://github.com/OWNER/harmony-lite@main"\n')
    notebook = series.notebook_from(source)
    notebook.metadata["harmony_lite"] = {"source_sha256": series.source_hash(source)}
    series.write_notebook(notebook, source.with_suffix(".ipynb"))

    assert badges.stamp("me/my.fork", "v1", readme, source.parent) == ["90_trial"]
    assert badges.stamp("me/my.fork", "v1", readme, source.parent) == []
    stamped = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    assert stamped.cells[-1].source == 'FROM = "git+https://github.com/me/my.fork@v1"'
    assert series.differences(source, stamped) == []
    assert series.executed_hash(stamped) == series.source_hash(source)
    written = readme.read_text()
    path = "notebooks%2F90_trial.ipynb"
    assert f"(https://mybinder.org/v2/gh/me/my.fork/v1?urlpath=lab%2Ftree%2F{path})" in written
    assert "/github/me/my.fork/blob/v1/notebooks/90_trial.ipynb)" in written
    assert written.startswith("a\n") and written.endswith("\nb\n")
    with pytest.raises(ValueError, match="wanted OWNER/REPOSITORY"):
        badges.stamp("https://github.com/me/fork", "v1", readme, source.parent)
