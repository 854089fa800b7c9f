"""The papers, a folder each: method, experiment, exercises, what the paper prints, and what came out here.

Nothing of one paper lies elsewhere in the package, and no list names a paper: a folder with a `published.toml` is one
(`harmony_lite.papers.published.names`). Beside the folders: published.py and printed.py (what papers print),
experiments.py (what the ledger measures), recipes.py (how shipped weights are made).

To add a paper: a folder with `__init__.py` (what the paper is, what lies where, `METHODS`) and `published.toml`; then,
as they come, the method's files, `experiment.py`, `recipe.py` and `exercises_NN.py`, found by their names.
"""
