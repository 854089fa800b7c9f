"""README and notebooks agree with what was measured, and a second set-up does nothing."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import series
from series_budget import measured_words
from series_written import MEASURED_LINE

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def rows_of_the_budget():
    table = README.split(series.BUDGET_MARKERS[0])[1].split(series.BUDGET_MARKERS[1])[0]
    found = re.findall(r"\[(\w+)\]\(notebooks/\w+\.ipynb\) \| (\d+) \| (\d+) \| (\d+) \|", table)
    return {name: {"seconds": int(seconds), "peak_megabytes": int(memory)} for name, _, seconds, memory in found}


def test_every_notebook_stands_in_the_budget_within_its_limits():
    rows = rows_of_the_budget()
    assert set(rows) == {source.stem for source in series.sources()}
    assert series.over_budget({f"notebook {name}": cost for name, cost in rows.items()}) == []


def test_both_commands_stand_in_the_budget_within_their_limits():
    minutes = {name: float(value) for name, value in re.findall(r"`(make run|make test)` ([\d.]+) minutes", README)}
    assert set(minutes) == set(series.COMMAND_LIMITS)
    assert series.over_budget({name: 60 * value for name, value in minutes.items()}) == []


def test_what_is_too_slow_or_too_large_is_named():
    found = series.over_budget({"make run": 1300.0, "notebook 07_x": {"seconds": 80.0, "peak_megabytes": 1600}})
    assert len(found) == 3 and "found 1300 s after installation, wanted at most 1200 s" in found[0]


@pytest.mark.parametrize("source", series.sources(), ids=lambda path: path.stem)
def test_each_notebook_has_one_title_with_its_number_and_says_what_it_costs(source):
    text = source.read_text(encoding="utf-8")
    titles = re.findall(r"^# # (.+)$", text, re.MULTILINE)
    assert len(titles) == 1 and titles[0].startswith(source.stem[:2])
    (said,) = [line["rest"] for line in MEASURED_LINE.finditer(text)]
    assert measured_words(rows_of_the_budget()[source.stem], said) == said, f"{source.name}: make budget"


def test_the_notebooks_of_the_table_exist():
    for link in re.findall(r"\]\((notebooks/[^)]+)\)", README):
        assert (ROOT / link).exists(), link


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed here")
def test_a_second_set_up_installs_nothing(tmp_path):
    (tmp_path / ".harmony-lite-installed").touch()
    done = subprocess.run(
        ["make", "-n", "run", "test", f"VENV={tmp_path}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "pip install" not in done.stdout and "series.py run" in done.stdout
