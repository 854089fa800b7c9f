"""The book opens without a network: nothing in its pages is loaded from outside; figures are described."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import series
from throwaway import FIRST_ALT, SECOND_ALT, write_series

# What a browser loads by itself when it opens a page; a link that a reader follows is none of these.
LOADED = {
    ("script", "src"),
    ("link", "href"),
    ("img", "src"),
    ("img", "srcset"),
    ("source", "src"),
    ("source", "srcset"),
    ("iframe", "src"),
    ("embed", "src"),
    ("object", "data"),
    ("video", "src"),
    ("audio", "src"),
    ("image", "href"),
    ("use", "href"),
}
NOT_LOADED_LINKS = {"author", "canonical", "help", "license", "next", "prev", "search", "index"}
OUTSIDE = re.compile(r"\s*(?:https?:)?//", re.IGNORECASE)
CSS_OUTSIDE = re.compile(r"(?:@import\s+(?:url\()?|url\()\s*[\"']?\s*((?:https?:)?//[^\"')\s]+)", re.IGNORECASE)
SCRIPT_OUTSIDE = re.compile(
    r"(?:https?:)?//[\w.-]+\.\w+/[^\s\"'<>]*\.(?:m?js|css|woff2?)\b"
    r"|(?:fetch|import|importScripts)\s*\(\s*[\"'`](?:https?:)?//[^\"'`]+",
    re.IGNORECASE,
)


class Page(HTMLParser):
    """One page: what it loads, which of that is outside, its pictures, whether it has mathematics."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.scripts: list[str] = []
        self.alts: dict[str, str] = {}
        self.mathematics = False
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self._open = tag if tag in ("script", "style") else self._open
        self.mathematics |= "math" in attributes.get("class", "").split()
        self.outside += CSS_OUTSIDE.findall(attributes.get("style", ""))
        if tag == "img":
            self.alts[attributes.get("src", "")] = attributes.get("alt", "").strip()
        if tag == "script" and "src" in attributes:
            self.scripts.append(attributes["src"])
        if tag == "link" and set(attributes.get("rel", "").split()) & NOT_LOADED_LINKS:
            return
        for name, value in attributes.items():
            if (tag, name.removeprefix("xlink:")) in LOADED and OUTSIDE.match(value):
                self.outside.append(value)

    def handle_endtag(self, tag: str) -> None:
        if tag == self._open:
            self._open = ""

    def handle_data(self, data: str) -> None:
        pattern = {"script": SCRIPT_OUTSIDE, "style": CSS_OUTSIDE}.get(self._open)
        if pattern is not None:
            self.outside += [match.group(0) for match in pattern.finditer(data)]


def book_faults(folder: Path) -> list[str]:
    """Every way in which the pages under a folder would load from outside, miss a file, or leave a figure bare."""
    faults = []
    for path in sorted(folder.rglob("*.html")):
        page, name = Page(path.read_text(encoding="utf-8")), path.relative_to(folder)
        faults += [f"{name}: loads {address}" for address in page.outside]
        faults += [
            f"{name}: {source} is described by {alt!r}"
            for source, alt in page.alts.items()
            if not alt or alt == source or alt.endswith((".png", ".svg", ".jpg", ".jpeg"))
        ]
        here = [path.parent / script.split("?")[0] for script in page.scripts if "//" not in script]
        faults += [f"{name}: {script.name} is missing" for script in here if not script.exists()]
        if page.mathematics and not any("mathjax" in str(script).lower() for script in here):
            faults.append(f"{name}: mathematics without a script that renders it")
    for path in sorted(folder.rglob("*.css")):
        found = CSS_OUTSIDE.findall(path.read_text(encoding="utf-8"))
        faults += [f"{path.relative_to(folder)}: loads {address}" for address in found]
    return faults


@pytest.fixture(scope="module")
def committed_book() -> tuple[Path, list[str]]:
    """The book of the committed notebooks; Sphinx builds again only what changed since the last time."""
    none_ran = series.BUILD / "nothing"
    page, warnings = series.book(name="book_check", ran=none_ran)
    return page.parent, warnings


def test_the_book_is_built_without_warnings(committed_book: tuple) -> None:
    folder, warnings = committed_book
    assert warnings == []
    for source in series.sources():
        assert (folder / f"{source.stem}.html").exists()


def test_the_book_needs_no_network_and_describes_its_figures(committed_book: tuple) -> None:
    assert book_faults(committed_book[0]) == []


def test_the_book_has_mathematics_and_figures_to_check(committed_book: tuple) -> None:
    folder, _ = committed_book
    pages = [Page((folder / f"{s.stem}.html").read_text()) for s in series.sources()]
    assert any(page.mathematics for page in pages)
    assert all(page.alts for page in pages)


def test_each_figure_of_a_cell_has_its_own_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANTED_PYTHON", sys.executable)
    source = write_series(tmp_path / "series")
    notebook, _ = series.executed(source)
    series.write_notebook(notebook, tmp_path / "run" / "90_trial.ipynb")
    front, warnings = series.book(source.parent, tmp_path, ran=tmp_path / "run")
    assert (warnings, book_faults(front.parent)) == ([], [])
    text = (front.parent / "90_trial.html").read_text()
    page = Page(text)
    assert list(page.alts.values()) == [FIRST_ALT, SECOND_ALT]
    assert page.mathematics
    assert "An interactive widget stands here" in text
    assert "For whoever teaches" not in text
    assert "Show code: A product of &lt;two&gt; numbers" in text
    fonts = list((front.parent / "_static" / "mathjax").rglob("MathJax_Main-Regular.woff"))
    assert len(fonts) == 1


FINE = '<p><a href="https://a.org/x.js">link</a><img src="f.png" alt="A line."></p>'


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        ('<script src="https://cdn.org/a.js"></script>', "loads https://cdn.org/a.js"),
        ('<script src="//cdn.org/a.js"></script>', "loads //cdn.org/a.js"),
        ('<link rel="stylesheet" href="HTTP://cdn.org/a.css">', "loads HTTP://cdn.org/a.css"),
        ('<link rel="preconnect" href="https://fonts.org">', "loads https://fonts.org"),
        ('<img src="https://b.org/badge.svg" alt="Badge">', "loads https://b.org/badge.svg"),
        ("<style>@import 'https://c.org/a.css';</style>", "https://c.org/a.css"),
        ('<p style="background:url(//c.org/a.png)">x</p>', "loads //c.org/a.png"),
        ('<script>s.src = "https://d.org/x/require.min.js"</script>', "require.min.js"),
        ('<script>import("https://esm.org/widget")</script>', "esm.org"),
        ('<img src="f.png">', "described by ''"),
        ('<img src="f.png" alt="f.png">', "described by 'f.png'"),
        ('<div class="math notranslate">x</div>', "mathematics without a script"),
        ('<script src="_static/absent.js"></script>', "absent.js is missing"),
    ],
)
def test_a_page_with_a_fault_is_found(tmp_path: Path, page: str, fault: str) -> None:
    (tmp_path / "page.html").write_text(FINE)
    assert book_faults(tmp_path) == []
    (tmp_path / "page.html").write_text(FINE + page)
    (found,) = book_faults(tmp_path)
    assert fault in found


def test_a_style_sheet_with_an_outside_font_is_found(tmp_path: Path) -> None:
    sheet = tmp_path / "a.css"
    sheet.write_text("@import url('local.css'); a { background: url(data:image/png;base64,AA) }")
    assert book_faults(tmp_path) == []
    sheet.write_text("@font-face { src: url( 'https://fonts.org/a.woff2') }")
    assert book_faults(tmp_path) == ["a.css: loads https://fonts.org/a.woff2"]
