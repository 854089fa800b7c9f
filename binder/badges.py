"""Point the Binder and Colab links at a repository: your fork, or a tag for a course.

    python binder/badges.py OWNER/REPOSITORY [--ref main]

README gets a table with one link of each kind for each notebook, between its two badge markers. In the notebooks,
the address that Colab installs the package from is changed (`git+https://github.com/OWNER/REPOSITORY@REF`), in the
source and in the `.ipynb`; outputs are kept, because that line does nothing elsewhere.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from urllib.parse import quote

import nbformat

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "notebooks"))
import series  # noqa: E402  (found beside the notebooks)

MARKERS = ("<!-- badges:start -->", "<!-- badges:end -->")
INSTALLED_FROM = re.compile(r"git\+https://github\.com/[\w.-]+/[\w.-]+@[\w./-]+")


def badge_table(repository: str, ref: str, names: list[str]) -> str:
    """README's table in Markdown: one row for each notebook, given by its name without suffix."""
    rows = ["| Notebook | Binder | Colab |", "|---|---|---|"]
    for name in names:
        path = f"notebooks/{name}.ipynb"
        place = f"{repository}/{quote(ref, safe='')}"
        binder = f"https://mybinder.org/v2/gh/{place}?urlpath={quote(f'lab/tree/{path}', safe='')}"
        colab = f"https://colab.research.google.com/github/{repository}/blob/{ref}/{path}"
        rows.append(
            f"| {name} | [![Open {name} in Binder](https://mybinder.org/badge_logo.svg)]({binder}) "
            f"| [![Open {name} in Colab]"
            f"(https://colab.research.google.com/assets/colab-badge.svg)]({colab}) |"
        )
    return "\n".join(rows)


def stamp_notebook(source: Path, address: str) -> bool:
    """Change the address in one source and its notebook; outputs that were up to date stay so."""
    text = source.read_text(encoding="utf-8")
    stamped = INSTALLED_FROM.sub(address, text)
    if stamped == text:
        return False
    path = source.with_suffix(".ipynb")
    notebook = nbformat.read(path, as_version=4) if path.exists() else None
    current = notebook is not None and series.executed_hash(notebook) == series.source_hash(source)
    source.write_text(stamped, encoding="utf-8")
    if notebook is None:
        return True
    for cell in notebook.cells:
        cell.source = INSTALLED_FROM.sub(address, cell.source)
    if current:
        notebook.metadata["harmony_lite"]["source_sha256"] = series.source_hash(source)
    series.write_notebook(notebook, path)
    return True


def stamp(repository: str, ref: str, readme: Path, notebooks: Path) -> list[str]:
    """Stamp README and the notebooks of a folder.

    Returns:
        Names of the notebooks whose address changed.

    Raises:
        ValueError: a repository of another form, or a README without the markers.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise ValueError(f"repository: found {repository!r}, wanted OWNER/REPOSITORY")
    text = readme.read_text(encoding="utf-8")
    start, end = MARKERS
    if text.count(start) != 1 or text.count(end) != 1:
        raise ValueError(f"{readme}: found no one pair of markers, wanted {start} and {end}")
    sources = series.sources(notebooks)
    table = badge_table(repository, ref, [source.stem for source in sources])
    before, after = text.split(start)[0], text.split(end)[1]
    readme.write_text(f"{before}{start}\n{table}\n{end}{after}", encoding="utf-8")
    address = f"git+https://github.com/{repository}@{ref}"
    return [source.stem for source in sources if stamp_notebook(source, address)]


def main(arguments: list[str] | None = None) -> int:
    """Stamp this repository; 0 done, 2 a wrong argument."""
    parser = argparse.ArgumentParser(prog="badges.py", description=__doc__.splitlines()[0])
    parser.add_argument("repository", help="OWNER/REPOSITORY on GitHub")
    parser.add_argument("--ref", default="main", help="branch or tag; a tag for a course")
    given = parser.parse_args(arguments)
    try:
        changed = stamp(given.repository, given.ref, ROOT / "README.md", series.FOLDER)
    except (FileNotFoundError, ValueError) as error:
        print(f"badges.py: error: {error}", file=sys.stderr)
        return 2
    print(f"Stamped README.md{''.join(f', {name}' for name in changed)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
