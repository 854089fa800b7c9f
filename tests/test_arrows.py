"""The arrows between rooms run one way: nobody imports from above."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "harmony_lite"

# room: the rooms that it may import from, itself included
MAY_SEE = {
    "profiles": {"profiles"},
    "storage": {"storage"},
    "interruption": {"interruption"},
    "simulate": {"simulate", "storage"},
    "images": {"images", "storage"},
    "weights": {"weights", "storage"},
    "training": {"training", "profiles", "storage", "weights"},
    "show": {"show"},
    "nets": {"nets"},
    "tasks": {"tasks", "images", "nets", "profiles", "simulate", "storage", "training", "weights"},
    "cohort_sources": {"cohort_sources", "images", "simulate", "storage"},
}
MAY_SEE["cohort"] = {"cohort", *MAY_SEE["cohort_sources"]}
MAY_SEE["methods"] = {"methods", "nets", "profiles", *MAY_SEE["cohort"], *MAY_SEE["training"]}
MAY_SEE["evaluate"] = {"evaluate", *MAY_SEE["methods"], *MAY_SEE["tasks"]}
MAY_SEE["exercises"] = {"exercises", *MAY_SEE["evaluate"]}  # on top, beside the notebooks
MAY_SEE["scan_files"] = {"scan_files", "interruption", *MAY_SEE["methods"]}
MAY_SEE["cohort_training"] = {"cohort_training", *MAY_SEE["methods"]}
MAY_SEE["cli"] = {"cli", "cohort_training", *MAY_SEE["evaluate"], *MAY_SEE["scan_files"]}

FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_rooms(path: Path) -> set[str]:
    """Rooms of the package that a file imports, at its top or inside a function."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        parts = [name.split(".") for name in names]
        rooms |= {part[1] for part in parts if part[0] == "harmony_lite" and len(part) > 1}
    return rooms - {"__version__"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_room_sees_only_what_lies_below(path):
    assert imported_rooms(path) <= MAY_SEE[room_of(path)]
