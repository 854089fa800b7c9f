"""A figure with axes that look alike everywhere: no top and right spines, frameless legends, sharp enough to read.

figure, axes = panels(2)
image(axes[0], slice_2d, title="the target")
axes[1].plot(...)
show(figure, alt="what the two panels show")
"""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from harmony_lite.show.figures import SHARP

__all__ = ["TEXT", "Panel", "image", "panels"]

TEXT = 10.0  # points: titles and labels; nothing in a lesson's figure should be below 9


class Panel(Axes):
    """Axes whose legends have no frame and whose text has one size."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.spines[["top", "right"]].set_visible(False)
        self.tick_params(labelsize=TEXT - 1)
        for label in (self.xaxis.label, self.yaxis.label):
            label.set_fontsize(TEXT)

    def set_title(self, label: str, *args: Any, **kwargs: Any) -> Any:
        """As matplotlib's, in the size of the other text."""
        return super().set_title(label, *args, **({"fontsize": TEXT} | kwargs))

    def text(self, x: float, y: float, s: str, *args: Any, **kwargs: Any) -> Any:
        """As matplotlib's, in the size of the tick labels."""
        return super().text(x, y, s, *args, **({"fontsize": TEXT - 1} | kwargs))

    def legend(self, *args: Any, **kwargs: Any) -> Any:
        """As matplotlib's, without a frame."""
        return super().legend(*args, **({"frameon": False, "fontsize": TEXT - 1} | kwargs))


def panels(
    columns: int = 1, rows: int = 1, *, size: tuple[float, float] | None = None, **layout: Any
) -> tuple[Figure, Any]:
    """A figure with its axes in rows and columns, saved at 110 dots per inch.

    Args:
        columns: 1 or more; more than six panels are too many for one question.
        rows: 1 or more.
        size: width and height of the whole figure in inches; 3.2 x 2.9 a panel, at most 9.6 wide, when absent.
        layout: further arguments of `plt.subplots`, such as `sharey=True` or `width_ratios=(1, 2)`.

    Returns:
        The figure, and its axes: one alone, an array `(columns,)` or `(rows,)`, or `(rows, columns)`.

    Raises:
        ValueError: no column or no row, or a size that is not positive.

    >>> figure, axes = panels(3)
    >>> len(axes), figure.dpi
    (3, 110)
    >>> plt.close(figure)
    """
    if columns < 1 or rows < 1:
        raise ValueError(f"panels: found {columns} columns and {rows} rows, wanted at least 1 of both")
    size = size or (min(3.2 * columns, 9.6), 2.9 * rows)
    if min(size) <= 0:
        raise ValueError(f"size: found {size}, wanted two positive numbers of inches")
    return plt.subplots(
        rows, columns, figsize=size, dpi=SHARP, layout="constrained", subplot_kw={"axes_class": Panel}, **layout
    )


def image(
    axis: Axes,
    picture: Any,
    window: tuple[float, float] = (0.0, 1.0),
    title: str = "",
    colours: str = "gray",
) -> AxesImage:
    """Draw a slice: first axis to the right, second upwards, as axial slices come; no ticks and no frame.

    Args:
        axis: where.
        picture: `(H, W)`, or `(1, ..., H, W)` as slices lie in a batch of one; array or tensor, any range.
        window: the values that are black and white (or the two ends of `colours`).
        title: above the picture.
        colours: a colour map of matplotlib, such as "PuOr_r" for differences.

    Returns:
        What was drawn, for a colour bar.

    Raises:
        ValueError: a picture of another shape, or a window without width.
    """
    values = np.asarray(picture, dtype=float)
    if values.ndim < 2 or values.size != values.shape[-1] * values.shape[-2]:
        raise ValueError(f"picture: found shape {values.shape}, wanted (H, W) or (1, ..., H, W)")
    if not window[0] < window[1]:
        raise ValueError(f"window: found {window}, wanted two values in rising order")
    values = values.reshape(values.shape[-2:])
    look = {"origin": "lower", "cmap": colours, "vmin": window[0], "vmax": window[1], "interpolation": "nearest"}
    drawn = axis.imshow(values.T, **look)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    if title:
        axis.set_title(title)
    return drawn
