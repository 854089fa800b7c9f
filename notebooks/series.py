"""The notebook series as one thing: made from its sources, executed, measured, copied for students, bound as a book.

    python notebooks/series.py pair [NB]       make the .ipynb beside each source, without outputs
    python notebooks/series.py execute [NB]    the same with outputs: this makes the committed files
    python notebooks/series.py run [NB]        execute into build/run and note seconds and memory
    python notebooks/series.py book            bind what is executed into build/book
    python notebooks/series.py student [NB]    copies without solutions into build/student
    python notebooks/series.py rows            write the lists of notebooks into README, the book and notebook 00
    python notebooks/series.py form [NB]       print how long the notebooks are, and what is against their form
    python notebooks/series.py budget          write what was measured into README's table and the notebooks' heads

**Sources.** The source of a notebook is `NN_slug.py` (py:percent); the `.ipynb` is made from it and never the other way
round. Outputs come from executing, never from merging, and the source's hash is stored beside them, so that an output
older than its source is found out.

**Folded cells.** Open code is code to be read: the method. A cell that only draws or sets up carries the tag
`folded`, alone or beside others, and its first line is its title, `# @title What the cell shows`. The book,
JupyterLab and Colab then hide the code and show the title instead.

**What is written for you.** The lists of notebooks (README's table, the book's contents, the map in notebook 00) come
from each notebook's first cell: its title `# 11 · Paper: the part`, and the sentence or list after **You will be able
to**. The line **Measured:** in a notebook's head comes from `budget`; a new notebook begins with that word alone. The
source's hash leaves these words out, so writing them makes no output old.

**Form.** A notebook says in its source's header, under `jupyter:`, that it keeps the limits of `series_form.py`:

    # ---
    # jupyter:
    #   harmony_lite:
    #     form: 2

`tests/test_notebook_form.py` then holds it to them. The longest open cell carries the tag `algorithm`.
"""

from __future__ import annotations

import argparse
import sys

from nbclient.exceptions import CellExecutionError
from series_book import book
from series_budget import COMMAND_LIMITS, budget, note, over_budget, stated, still_holds
from series_execution import execute_all, executed, run
from series_form import form_table
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
from series_rows import wanted_texts, write_rows
from series_written import BUDGET_MARKERS, NOTEBOOKS_MARKERS

__all__ = [
    "BUDGET_MARKERS",
    "BUILD",
    "COMMAND_LIMITS",
    "FOLDER",
    "NOTEBOOKS_MARKERS",
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
    "stated",
    "still_holds",
    "student",
    "wanted_texts",
    "write_notebook",
    "write_rows",
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


def rows_command() -> None:
    """`rows`: write and say where."""
    for path in write_rows():
        print(f"wrote the notebooks' rows into {path.name}")


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="series.py", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("pair", "make the .ipynb beside each source, without outputs"),
        ("execute", "make the .ipynb beside each source, with outputs"),
        ("run", "execute into build/run and note the costs"),
        ("student", "copies without solutions into build/student"),
        ("form", "print how long the notebooks are, and what is against their form"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("number", nargs="?", help="one notebook, by its number: 02")
    commands.add_parser("book", help="bind the executed notebooks into build/book")
    commands.add_parser("rows", help="write the lists of notebooks into README, the book and notebook 00")
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
            rows_command()
            execute_all(sources(number=given.number), None, "quick", timeout=600)
        elif given.command == "run":
            run_command(given.number)
        elif given.command == "student":
            print(f"Students' copies: {student(number=given.number)[0].parent}")
        elif given.command == "book":
            book_command()
        elif given.command == "rows":
            rows_command()
        elif given.command == "form":
            print(form_table(sources(number=given.number)))
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
