"""Sphinx's settings of the book. `notebooks/series.py book` copies this file beside the executed notebooks."""

from __future__ import annotations

import json
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

project = "harmony-lite"
author = "The harmony-lite contributors"
language = "en"

extensions = ["myst_nb", "sphinx-mathjax-offline"]  # the second carries MathJax in its wheel
exclude_patterns = ["**.ipynb_checkpoints"]

# Notebooks come executed; a page must never depend on what a kernel does while the book is built.
nb_execution_mode = "off"
nb_ipywidgets_js = {}  # by default MyST-NB loads require.js and the widget manager from the network
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "harmony-lite"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False


def describe_figures(app: Sphinx, document: nodes.document) -> None:
    """Give each figure the alternative text that its notebook stored with it.

    MyST-NB takes one alternative text a cell, and a cell may draw two figures; but it names each figure's file by the
    hash of its bytes, and `alt_texts.json` holds the texts by that hash.
    """
    texts = json.loads((Path(app.srcdir) / "alt_texts.json").read_text(encoding="utf-8"))
    for image in document.findall(nodes.image):
        text = texts.get(Path(image["uri"]).stem)
        if text:
            image["alt"] = text


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the step above."""
    app.connect("doctree-read", describe_figures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
