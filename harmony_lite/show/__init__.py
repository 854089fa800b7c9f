"""Figures with alt text, and widgets beside them."""

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
