"""The notebook series as one thing: made from its sources, executed, measured, copied for students, bound as a book.

    python notebooks/series.py pair [NB]       make the .ipynb beside each source, without outputs
    python notebooks/series.py execute [NB]    the same with outputs: this makes the committed files
    python notebooks/series.py run [NB]        execute into build/run and note seconds and memory
    python notebooks/series.py book            bind what is executed into build/book
    python notebooks/series.py student [NB]    copies without solutions into build/student
    python notebooks/series.py rows            write README's table of notebooks, the book's contents, notebook 00's map
    python notebooks/series.py budget          write what was measured into README's table and the notebooks' heads
    python notebooks/series.py form [NB]       count what the form of a notebook is judged by

The source of a notebook is `NN_slug.py` (py:percent); the `.ipynb` is made from it and never the other way round.
Outputs come from executing, never from merging, and the source's hash is stored beside them, so that an output
older than its source is found out.

A cell with the tag `folded` only draws or sets up; its first line `# @title What it shows` is what a reader sees
instead of the code, in the book, in JupyterLab and on Colab. A notebook whose header says `form: open and folded` under
`harmony_lite` is held to the limits of series_form.py.
"""

from __future__ import annotations

import argparse
import sys

from nbclient.exceptions import CellExecutionError
from series_book import book
from series_budget import COMMAND_LIMITS, budget, note, over_budget
from series_execution import execute_all, executed, run
from series_form import as_table
from series_pairs import (
    BUILD,
    FOLDER,
    differences,
    executed_hash,
    notebook_from,
    pair,
    source_hash,
    sources,
    student,
    write_notebook,
)
from series_rows import write_rows
from series_written import BUDGET_MARKERS

__all__ = [
    "BUDGET_MARKERS",
    "BUILD",
    "COMMAND_LIMITS",
    "FOLDER",
    "book",
    "budget",
    "differences",
    "executed",
    "executed_hash",
    "notebook_from",
    "note",
    "over_budget",
    "pair",
    "run",
    "source_hash",
    "sources",
    "student",
    "write_notebook",
]


def run_command(number: str | None) -> None:
    """`run`: say where the executed notebooks are."""
    run(number=number)
    print(f"Executed notebooks: {BUILD / 'run'}")


def book_command() -> None:
    """`book`: bind and say where to look."""
    page, warnings = book()
    print("\n".join(warnings), file=sys.stderr, end="\n" if warnings else "")
    print(f"The book: open {page} in a browser (it needs no network)")


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="series.py", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("pair", "make the .ipynb beside each source, without outputs"),
        ("execute", "make the .ipynb beside each source, with outputs"),
        ("run", "execute into build/run and note the costs"),
        ("student", "copies without solutions into build/student"),
        ("form", "count what the form of a notebook is judged by, and name what is against the form"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("number", nargs="?", help="one notebook, by its number: 02")
    commands.add_parser("book", help="bind the executed notebooks into build/book")
    commands.add_parser("rows", help="write the lists of notebooks in README, the book and notebook 00")
    commands.add_parser("budget", help="write the measured costs into README's table and the notebooks' heads")
    command = commands.add_parser("note", help="keep the seconds of a command for the table")
    command.add_argument("name")
    command.add_argument("seconds", type=float)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """One of the commands; 0 done, 1 a cell or Sphinx failed, 2 a wrong argument."""
    given = parsed(arguments)
    try:
        if given.command == "pair":
            for path in pair(number=given.number):
                print(f"made {path.name}, without outputs: make execute fills them in")
        elif given.command == "execute":
            write_rows()
            execute_all(sources(number=given.number), None, "quick", timeout=600)
        elif given.command == "run":
            run_command(given.number)
        elif given.command == "student":
            print(f"Students' copies: {student(number=given.number)[0].parent}")
        elif given.command == "book":
            book_command()
        elif given.command == "rows":
            print("\n".join(f"wrote {path.name}" for path in write_rows()) or "nothing to write")
        elif given.command == "form":
            print(as_table(sources(number=given.number)))
        elif given.command == "budget":
            print(budget())
        else:
            note(given.name, given.seconds)
    except CellExecutionError as error:
        print(f"series.py: a cell raised\n{error}\n", file=sys.stderr)
        print(f"As far as it came: {BUILD / 'failed'}", file=sys.stderr)
        return 1
    except RuntimeError as error:
        print(f"series.py: error: {error}", file=sys.stderr)
        return 1
    except (FileNotFoundError, ValueError) as error:
        print(f"series.py: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
