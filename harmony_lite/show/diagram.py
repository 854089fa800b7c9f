"""Boxes with text and arrows between them: how a method works, in one picture.

diagram(
    {"x": (1.5, 1, "image x"), "z": (5.5, 1, "latent z", COLOURS[1])},
    [("x", "z", "f", 0.3), ("z", "x", "shrink, then f⁻¹", 0.3)],
    title="The loop",
)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from harmony_lite.show.figures import COLOURS, SHARP

__all__ = ["Arrow", "Box", "diagram"]

GREY = "#555555"
AWAY = 0.07  # inches between an arrow and its label


class Box(NamedTuple):
    """A text in a rounded frame.

    Attributes:
        x: centre, inches from the left edge.
        y: centre, inches from the lower edge.
        text: may have several lines.
        colour: of the frame; the text without one where it is empty.
    """

    x: float
    y: float
    text: str
    colour: str = GREY


class Arrow(NamedTuple):
    """From one box to another; it starts and ends at their frames.

    Attributes:
        start: name of a box.
        end: name of another.
        label: beside the middle of the arrow; above it, or to its right where it runs upright, or outside the bend.
        bend: 0 is straight; 0.3 is a bow to the left of whoever walks from start to end, -0.3 one to the right.
        colour: of arrow and label.
    """

    start: str
    end: str
    label: str = ""
    bend: float = 0.0
    colour: str = COLOURS[0]


def diagram(
    boxes: Mapping[str, Box | tuple],
    arrows: Sequence[Arrow | tuple] = (),
    title: str = "",
    *,
    size: tuple[float, float] = (8.0, 3.0),
    fontsize: float = 11.0,
) -> Figure:
    """Draw boxes at their places and arrows between them.

    Args:
        boxes: name to `Box`, or to a plain tuple in its order: `(x, y, text)` with x and y in inches.
        arrows: each an `Arrow`, or a plain tuple in its order: `("x", "z", "label", 0.3)`.
        title: above all.
        size: width and height of the whole in inches.
        fontsize: of the boxes in points; labels are a point smaller, at least 9.

    Raises:
        ValueError: no box, a box outside the picture, an arrow to a box that is not there or to itself, a text below
            9 points.

    >>> figure = diagram({"x": (1, 1, "image"), "z": (5, 1, "latent")}, [("x", "z", "f")])
    >>> plt.close(figure)
    """
    if fontsize < 9:
        raise ValueError(f"fontsize: found {fontsize:g}, wanted at least 9 points")
    if not boxes:
        raise ValueError("boxes: found none, wanted at least one")
    placed = {name: Box(*box) for name, box in boxes.items()}
    for name, box in placed.items():
        if not (0 <= box.x <= size[0] and 0 <= box.y <= size[1]):
            raise ValueError(f"box {name!r}: found its centre at ({box.x:g}, {box.y:g}), wanted it within {size}")
    drawn_arrows = [Arrow(*arrow) for arrow in arrows]
    for arrow in drawn_arrows:
        unknown = {arrow.start, arrow.end} - set(placed)
        if unknown or arrow.start == arrow.end:
            raise ValueError(
                f"arrow: found {arrow.start!r} to {arrow.end!r}, wanted two of the boxes {', '.join(placed)}"
            )
    figure = plt.figure(figsize=size, dpi=SHARP)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, size[0]), ylim=(0, size[1]))
    axis.axis("off")
    texts = {name: _draw_box(axis, box, fontsize) for name, box in placed.items()}
    figure.draw_without_rendering()  # frames get their sizes, which the arrows end at
    for arrow in drawn_arrows:
        _draw_arrow(axis, arrow, placed, texts, max(9.0, fontsize - 1))
    if title:
        axis.set_title(title, fontsize=fontsize, y=1.0, pad=4)
    return figure


def _draw_box(axis: Axes, box: Box, fontsize: float) -> Text:
    frame = {"boxstyle": "round,pad=0.45", "facecolor": "white", "edgecolor": box.colour or "none", "linewidth": 1.5}
    style = {"ha": "center", "va": "center", "fontsize": fontsize, "linespacing": 1.3, "bbox": frame}
    return axis.text(box.x, box.y, box.text, zorder=2, **style)


def _draw_arrow(axis: Axes, arrow: Arrow, boxes: Mapping[str, Box], texts: Mapping[str, Text], fontsize: float) -> None:
    start, end = (np.array([boxes[name].x, boxes[name].y]) for name in (arrow.start, arrow.end))
    frames = (texts[name].get_bbox_patch() for name in (arrow.start, arrow.end))
    patch = FancyArrowPatch(
        start, end,
        arrowstyle="-|>,head_length=6,head_width=3", connectionstyle=f"arc3,rad={-arrow.bend}",
        shrinkA=3, shrinkB=3, linewidth=1.8, color=arrow.colour, zorder=3,
        **dict(zip(("patchA", "patchB"), frames, strict=True)),
    )  # fmt: skip
    axis.add_patch(patch)
    if arrow.label:
        extents = [texts[name].get_bbox_patch().get_window_extent() for name in (arrow.start, arrow.end)]
        frames = [extent.transformed(axis.transData.inverted()) for extent in extents]
        outwards = _outwards(start, end, arrow.bend)
        x, y = _middle(start, end, arrow.bend, frames) + AWAY * outwards
        is_beside = abs(outwards[0]) > 0.8
        ha = ("left" if outwards[0] > 0 else "right") if is_beside else "center"
        va = "center" if is_beside else ("bottom" if outwards[1] > 0 else "top")
        look = {"fontsize": fontsize, "color": arrow.colour, "linespacing": 1.2}
        label = axis.text(x, y, arrow.label, ha=ha, va=va, zorder=4, **look)
        if not is_beside:  # a wide label on a slope would touch the arrow at one of its ends
            extent = label.get_window_extent().transformed(axis.transData.inverted())
            slope = (end - start)[1] / (end - start)[0]
            label.set_y(y + np.sign(outwards[1]) * abs(slope) * extent.width / 2)


def _middle(start: np.ndarray, end: np.ndarray, bend: float, frames: Sequence[Bbox]) -> np.ndarray:
    """Middle of the part of an arrow that is seen, outside the frames of its two boxes."""
    along = end - start
    control = (start + end) / 2 + bend * np.array([-along[1], along[0]])  # as matplotlib's arc3 has it
    t = np.linspace(0, 1, 201)[:, None]
    way = (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end
    seen = np.ones(len(way), dtype=bool)
    for frame in frames:
        seen &= ~((way >= frame.min) & (way <= frame.max)).all(1)
    places = way[seen] if seen.any() else way
    return places[len(places) // 2]


def _outwards(start: np.ndarray, end: np.ndarray, bend: float) -> np.ndarray:
    """Unit vector across the arrow: to the outside of its bend; upwards or to the right where it is straight."""
    along = (end - start) / np.hypot(*(end - start))
    left = np.array([-along[1], along[0]])
    if bend:
        return left * np.sign(bend)
    is_upright = abs(along[1]) > abs(along[0])
    return left * (np.sign(left[0]) if is_upright else np.sign(left[1]))
