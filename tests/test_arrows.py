"""The house: arrows between rooms run one way, rooms and files stay small, and no list names a paper."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "harmony_lite"

# room: the rooms that it may import from, itself included; further down in this table is further up in the house
MAY_SEE = {
    "profiles": {"profiles"},
    "storage": {"storage"},
    "interruption": {"interruption"},
    "command_arguments": {"command_arguments"},
    "command_help": {"command_help"},
    "simulate": {"simulate", "storage"},
    "images": {"images", "storage"},
    "nets": {"nets"},
    "weights": {"weights", "storage"},
    "cuda_graphs": {"cuda_graphs"},
    "training": {"training", "cuda_graphs", "storage"},
    "show": {"show"},
    "cohort": {"cohort", "images", "simulate", "storage"},
}
MAY_SEE["splits"] = {"splits", "profiles", *MAY_SEE["cohort"]}
MAY_SEE["lesson"] = {"lesson", *MAY_SEE["splits"]}
MAY_SEE["methods"] = {"methods", "nets", "profiles", "training", "weights", *MAY_SEE["cohort"]}
# what judges images knows no method; a method that needs a task takes a callable
MAY_SEE["tasks"] = {"tasks", "images", "nets", "profiles", "simulate", "storage", "training", "weights"}
MAY_SEE["evaluate"] = {"evaluate", *MAY_SEE["methods"], *MAY_SEE["splits"], *MAY_SEE["tasks"]}
MAY_SEE["exercises"] = {"exercises", *MAY_SEE["evaluate"]}
MAY_SEE["a paper's method"] = {"a paper's method", "cuda_graphs", *MAY_SEE["methods"]}
MAY_SEE["papers"] = {"papers", "a paper's method", *MAY_SEE["exercises"]}
MAY_SEE["ledger"] = {"ledger", *MAY_SEE["papers"]}
MAY_SEE["own_scans"] = {"own_scans", "interruption", "a paper's method", *MAY_SEE["methods"]}
MAY_SEE["cli"] = {"cli", "command_arguments", "command_help", *MAY_SEE["ledger"], *MAY_SEE["own_scans"]}

FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
# of a paper's folder: what measures, trains and teaches; every other file there is the method
ABOVE_A_METHOD = re.compile(r"experiment|judges|sites|recipe|exercises_\d\d")
LONGEST = 350
LONG_WITH_A_REASON: dict[str, str] = {}


def room_of(parts: tuple[str, ...]) -> str:
    """Room of a module, by the parts of its name below the package."""
    if parts[0] == "papers" and len(parts) > 1 and (PACKAGE / "papers" / parts[1]).is_dir():
        is_above = len(parts) > 2 and ABOVE_A_METHOD.fullmatch(parts[2])
        return "papers" if is_above else "a paper's method"
    return parts[0]


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
        rooms |= {room_of(tuple(part[1:])) for part in parts if part[0] == "harmony_lite" and len(part) > 1}
    return rooms - {"__version__"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_room_sees_only_what_lies_below(path):
    room = room_of(path.relative_to(PACKAGE).with_suffix("").parts)
    assert imported_rooms(path) <= MAY_SEE[room]


def test_no_two_rooms_see_each_other():
    for room, seen in MAY_SEE.items():
        for other in seen - {room}:
            assert room not in MAY_SEE[other], f"{room} and {other}"


def test_a_paper_does_not_see_another_paper():
    for path in PACKAGE.glob("papers/*/*.py"):
        others = {folder.name for folder in (PACKAGE / "papers").iterdir() if folder.is_dir()} - {path.parent.name}
        named = re.findall(r"harmony_lite\.papers\.(\w+)", path.read_text(encoding="utf-8"))
        assert not others & set(named), path


def test_files_stay_short():
    lines = {path.relative_to(PACKAGE).as_posix(): len(path.read_text().splitlines()) for path in FILES}
    assert {name for name, count in lines.items() if count > LONGEST} <= set(LONG_WITH_A_REASON), lines


def test_the_top_of_methods_stays_small():
    entries = [path.name for path in (PACKAGE / "methods").iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 8, entries


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_list_outside_its_folder_names_a_paper(path):
    """In code, that is: prose may say where an idea comes from. A preset's name is a scanner's."""
    papers = {folder.name for folder in (PACKAGE / "papers").iterdir() if (folder / "published.toml").is_file()}
    if path.parent.name in papers:
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    strings = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]
    named = [text for text in strings if text.replace("-", "_").lower() in papers]
    allowed = {"ledger/real_pair.py"}  # which methods see the one real pair
    assert not named or path.relative_to(PACKAGE).as_posix() in allowed, named
