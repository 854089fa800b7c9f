"""Figures on plain arrays: fixed windows, grey images, colour-blind-safe colours, a text for who cannot see them.

Every function returns a matplotlib figure; `show(figure, alt=...)` puts it into a notebook's output together with its
alt text, which Jupyter, exported pages and the book hand on to screen readers.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "curves",
    "difference",
    "dots",
    "histograms",
    "orthogonal",
    "png",
    "show",
    "strip",
    "table",
]

# Okabe and Ito's palette, which people with any colour vision can tell apart
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
_DPI = 66  # of the functions here
SHARP = 110  # of figures that come from `panels` and `diagram`; a figure of at least that keeps its own
_VIEWS = ("sagittal", "coronal", "axial")


def show(figure: Figure, alt: str) -> None:
    """Display a figure in the notebook with its alt text, and close it.

    Args:
        figure: from any function here, or one's own.
        alt: what the figure shows, in a sentence or two; never empty.

    Raises:
        ValueError: an empty alt text.
    """
    if not alt.strip():
        raise ValueError("alt: found an empty text, wanted what the figure shows in words")
    from IPython.display import display

    data = {"image/png": png(figure), "text/plain": f"[figure: {alt}]"}
    display(data, metadata={"image/png": {"alt": alt}}, raw=True)


def png(figure: Figure) -> bytes:
    """A figure as PNG with a palette, a third of the size of a full one; the figure is closed.

    Figures that `harmony_lite.show.panels` and `diagram` made are saved at their own 110 dots per inch, others at 66.
    """
    from PIL import Image

    full, small = io.BytesIO(), io.BytesIO()
    is_sharp = figure.dpi >= SHARP
    figure.savefig(full, format="png", dpi=figure.dpi if is_sharp else _DPI, bbox_inches="tight")
    plt.close(figure)
    # the first way keeps colours that few pixels have, such as both ends of a colour bar
    sharp, older = {"colors": 64, "method": Image.Quantize.MAXCOVERAGE, "kmeans": 2}, {"colors": 100, "kmeans": 3}
    palette = Image.open(full).convert("RGB").quantize(dither=Image.Dither.NONE, **(sharp if is_sharp else older))
    palette.save(small, format="png", optimize=True)
    return small.getvalue()


def strip(
    images: Mapping[str, np.ndarray],
    *,
    window: tuple[float, float] = (0.0, 1.0),
    columns: int | None = None,
    title: str = "",
    size: float = 1.8,
) -> Figure:
    """2D images side by side under their names, all with one window.

    Args:
        images: name to `(H, W)` array; first axis to the right, second upwards, as axial slices come.
        window: the values that are black and white.
        columns: per row; all in one row when absent.
        size: width of one image in inches.
    """
    columns = columns or len(images)
    rows = -(-len(images) // columns)
    shape = next(iter(images.values())).shape
    height = (size * shape[1] / shape[0] + 0.3) * rows + (0.3 if title else 0)
    figure, axes = plt.subplots(rows, columns, figsize=(size * columns, height), squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for axis, (name, image) in zip(axes.flat, images.items(), strict=False):
        _grey(axis, image, window)
        axis.set_title(name, fontsize=9)
    return _titled(figure, title)


def orthogonal(
    volumes: Mapping[str, np.ndarray],
    *,
    at: tuple[float, float, float] = (0.45, 0.5, 0.55),
    window: tuple[float, float] = (0.0, 1.0),
    title: str = "",
) -> Figure:
    """Sagittal, coronal and axial slices of volumes, one column each.

    Args:
        volumes: name to `(D, H, W)` array, RAS+.
        at: where to cut, as fractions of the three axes.
        window: the values that are black and white.
    """
    width = min(2.1, 11.0 / len(volumes))
    size = (width * len(volumes), 3.1 * width)
    figure, axes = plt.subplots(3, len(volumes), figsize=size, squeeze=False, layout="constrained")
    for column, (name, volume) in enumerate(volumes.items()):
        for row, axis in enumerate(axes[:, column]):
            image = np.take(volume, int(at[row] * volume.shape[row]), axis=row)
            _grey(axis, image, window)
            axis.set(xticks=[], yticks=[], ylabel=_VIEWS[row] if column == 0 else "")
            axis.spines[:].set_visible(False)
        axes[0, column].set_title(name, fontsize=9)
    return _titled(figure, title)


def difference(
    image: np.ndarray,
    reference: np.ndarray,
    *,
    names: tuple[str, str] = ("image", "reference"),
    window: tuple[float, float] = (0.0, 1.0),
    span: float = 0.4,
    title: str = "",
) -> Figure:
    """Image, reference, and image minus reference on a fixed diverging scale of plus and minus `span`."""
    figure, axes = plt.subplots(1, 3, figsize=(7.0, 2.8), layout="constrained")
    for axis, picture, name in zip(axes[:2], (image, reference), names, strict=True):
        _grey(axis, picture, window)
        axis.set_title(name, fontsize=9)
    drawn = axes[2].imshow((image - reference).T, origin="lower", cmap="PuOr_r", vmin=-span, vmax=span)
    axes[2].set_title(f"{names[0]} minus {names[1]}", fontsize=9)
    figure.colorbar(drawn, ax=axes[2], shrink=0.8)
    for axis in axes:
        axis.axis("off")
    return _titled(figure, title)


def histograms(
    values: Mapping[str, np.ndarray],
    *,
    span: tuple[float, float] = (-0.1, 1.3),
    bins: int = 100,
    xlabel: str = "intensity",
    title: str = "",
) -> Figure:
    """Intensity distributions as outlines in one frame, each with its own colour and line style.

    Args:
        values: name to intensities of any shape (only those inside a mask, as a rule).
        span: range of the horizontal axis.
    """
    figure, axis = plt.subplots(figsize=(6.4, 3.0), layout="constrained")
    styles = ("-", "--", "-.", ":")
    for index, (name, intensities) in enumerate(values.items()):
        density, edges = np.histogram(np.ravel(intensities), bins=bins, range=span, density=True)
        line = {"color": COLOURS[index % 7], "linestyle": styles[index % 4], "linewidth": 1.5}
        axis.plot((edges[:-1] + edges[1:]) / 2, density, label=name, **line)
    axis.set(xlabel=xlabel, ylabel="density", yticks=[], xlim=span, title=title)
    axis.legend(frameon=False, fontsize=8)
    _open(axis)
    return figure


def curves(
    x: np.ndarray,
    lines: Mapping[str, np.ndarray],
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    mark: float | None = None,
) -> Figure:
    """Lines over one horizontal axis, named at their right end instead of in a box.

    Args:
        x: `(K,)`.
        lines: name to `(K,)`.
        mark: a vertical dotted line at this place.
    """
    figure, axis = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
    for index, (name, y) in enumerate(lines.items()):
        axis.plot(x, y, color=COLOURS[index % 7], linewidth=1.8)
        axis.annotate(
            name, (x[-1], y[-1]), xytext=(4, 0), textcoords="offset points", va="center", color=COLOURS[index % 7]
        )
    if mark is not None:
        axis.axvline(mark, color="grey", linestyle=":")
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    _open(axis)
    return figure


def dots(
    groups: Mapping[str, Sequence[float]],
    *,
    xlabel: str,
    marks: Mapping[str, Sequence[float]] | None = None,
    title: str = "",
) -> Figure:
    """One row per group: a dot per person, a bar at the mean; published values as diamonds.

    Args:
        groups: name to one value per person.
        marks: name to values from elsewhere, drawn in the same rows and said to be so in the legend.
    """
    figure, axis = plt.subplots(figsize=(6.4, 0.30 * len(groups) + 1.0), layout="constrained")
    for row, (name, values) in enumerate(groups.items()):
        axis.plot(
            values, [row] * len(values), "o", color=COLOURS[0], alpha=0.35, markersize=4, label="one person" * (not row)
        )
        axis.plot(
            [np.mean(values)] * 2, [row - 0.35, row + 0.35], color=COLOURS[0], linewidth=2.5, label="mean" * (not row)
        )
        for value in (marks or {}).get(name, ()):
            seen = axis.get_legend_handles_labels()[1]
            label = "" if "published" in seen else "published"
            axis.plot(value, row, "D", markerfacecolor="none", markeredgecolor=COLOURS[1], markersize=6, label=label)
    axis.set(yticks=range(len(groups)), yticklabels=list(groups), xlabel=xlabel, title=title)
    axis.invert_yaxis()
    axis.legend(frameon=False, fontsize=8, loc="lower right")
    _open(axis)
    return figure


def table(frame: pd.DataFrame, *, title: str = "", digits: int = 2) -> Figure:
    """A small table as a picture, for slides and for comparison with a printed one."""
    size = (1.3 * (frame.shape[1] + 1.4), 0.32 * (len(frame) + 1.5))
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    _draw_table(axis, frame, digits)
    return _titled(figure, title)


def _draw_table(axis, frame: pd.DataFrame, digits: int) -> None:
    axis.axis("off")
    cells = [[f"{v:.{digits}f}" if isinstance(v, float) else str(v) for v in row] for row in frame.to_numpy()]
    drawn = axis.table(cells, rowLabels=[str(i) for i in frame.index], colLabels=list(frame.columns), loc="center")
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(8)
    drawn.scale(1, 1.25)
    for cell in drawn.get_celld().values():
        cell.set_edgecolor("#cccccc")


def _grey(axis, image: np.ndarray, window: tuple[float, float]) -> None:
    axis.imshow(np.asarray(image).T, origin="lower", cmap="gray", vmin=window[0], vmax=window[1])


def _open(axis) -> None:
    axis.spines[["top", "right"]].set_visible(False)


def _titled(figure: Figure, title: str) -> Figure:
    if title:
        figure.suptitle(title, fontsize=10)
    return figure
