"""Figures with alt text, and widgets beside them."""

from harmony_lite.show.diagram import Arrow, Box, diagram
from harmony_lite.show.figures import (
    COLOURS,
    curves,
    difference,
    dots,
    histograms,
    orthogonal,
    png,
    show,
    strip,
    table,
)
from harmony_lite.show.panels import image, panels

__all__ = [
    "COLOURS",
    "Arrow",
    "Box",
    "curves",
    "diagram",
    "difference",
    "dots",
    "histograms",
    "image",
    "orthogonal",
    "panels",
    "png",
    "show",
    "strip",
    "table",
]
