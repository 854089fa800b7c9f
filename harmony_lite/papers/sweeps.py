"""What short trainings with one thing changed gave, as files: `papers/PAPER/sweeps.PROFILE.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harmony_lite.papers.published import FOLDER, load
from harmony_lite.profiles import active

__all__ = ["SHORT_TRAINING", "sweeps", "sweeps_path"]

SHORT_TRAINING = "short training"  # the variant of a ledger's row that a sweep measured


def sweeps_path(paper: str, profile: str | None = None) -> Path:
    """The file of a paper's sweeps, in its folder, for the active profile when None is named."""
    return FOLDER / load(paper).name / f"sweeps.{profile or active().name}.json"


def sweeps(paper: str, profile: str | None = None) -> dict[str, dict[str, Any]]:
    """What `data_scripts/sweep_PAPER.py` measured: by part and name of the training, values per person.

    Raises:
        FileNotFoundError: nothing was measured for this profile.
    """
    path = sweeps_path(paper, profile)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: found no file, wanted what data_scripts/sweep_{load(paper).name}.py writes")
    return json.loads(path.read_text(encoding="utf-8"))
