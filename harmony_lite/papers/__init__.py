"""The papers, a folder each: method, experiment, exercises, what the paper prints, and what came out here.

No list names a paper: a folder with a `published.toml` is one
(`harmony_lite.papers.published.names`). Beside the folders: published.py and printed.py (what papers print),
experiments.py (what the ledger measures), recipes.py (how shipped weights are made).

To add a paper, make a folder; each file is found by its name. Two files are needed:

- `__init__.py`: what the paper is and which equation is where;
- `published.toml`: tables, claims, index; printed.py explains every part, `tests/made_paper.py` is the smallest one.

The others are there where the paper has what they hold:

- the method's files in reading order, a class of `harmony_lite.methods.Harmonizer` among them, which `METHODS` in
  `__init__.py` names (as `harmony_lite.methods` says);
- `experiment.py`: `PEOPLE_ON`, `FITS` and `measure` (as experiments.py says);
- `recipe.py`: `RECIPES` (as recipes.py says), where the default recipe does not serve;
- `exercises_NN.py`: as `harmony_lite.exercises` says;
- notebooks `NN_slug.py`, whose first cell gives the rows of README and book.
"""
