"""A small notebook for tests of the series' machinery: mathematics, figures, a widget, a folded cell, an exercise."""

from __future__ import annotations

from pathlib import Path

__all__ = ["FIRST_ALT", "SECOND_ALT", "write_series"]

FIRST_ALT = "A rising line."
SECOND_ALT = 'A falling line, called "down".'

SOURCE = r"""# ---
# jupyter:
#   kernelspec:
#     display_name: some other Python
#     language: python
#     name: elsewhere
# ---

# %% [markdown]
# # A trial
#
# A number $a_1 = \tfrac{1}{2}$ and an equation:
#
# $$
# \int_0^1 x \, dx = \tfrac{1}{2} \tag{1}
# $$

# %% tags=["setup"]
import io
import os
import sys

import ipywidgets
import matplotlib.pyplot as plt
from IPython.display import Image, display

print(sys.executable == os.environ["WANTED_PYTHON"])
print(os.path.basename(os.getcwd()))
print(os.environ["OMP_NUM_THREADS"], os.environ["HARMONY_PROFILE"])


# %%
def draw(values, alt):
    figure, axes = plt.subplots(figsize=(2, 1))
    axes.plot(values)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    plt.close(figure)
    display(Image(picture.getvalue()), metadata={"image/png": {"alt": alt}})


draw([0, 1], FIRST)
draw([1, 0], SECOND)

# %%
ipywidgets.IntSlider(3)

# %% tags=["folded"]
# @title A product of <two> numbers
print(6 * 7)

# %% tags=["exercise", "exercise-90.1"]
def double(x):
    ...


check("90.1", double)

# %% tags=["solution", "exercise-90.1"]
def double(x):
    return 2 * x


assert check("90.1", double).passed

# %% [markdown] tags=["instructor"]
# For whoever teaches: nothing here.
"""

INDEX = """# Front page

```{toctree}
90_trial
```
"""


def write_series(folder: Path) -> Path:
    """Write the trial notebook's source and a front page; returns the source."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.md").write_text(INDEX)
    source = folder / "90_trial.py"
    text = SOURCE.replace("FIRST)", f"{FIRST_ALT!r})").replace("SECOND)", f"{SECOND_ALT!r})")
    # The exercise's check is a stand-in: the real one knows the exercises of the package only.
    stand_in = "\n\ndef check(id, answer):\n    return type('Result', (), {'passed': True})()\n"
    source.write_text(text.replace('["HARMONY_PROFILE"])\n', '["HARMONY_PROFILE"])\n' + stand_in))
    return source
