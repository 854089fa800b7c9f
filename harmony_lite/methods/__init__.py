"""Methods, one file each; `names()` lists them and `load_method(name)` gives one with its shipped weights."""

from harmony_lite.methods import (
    adversarial,
    bias_correction,
    blindharmony,
    classical,
    combat,
    intensity_standards,
    mispel,
    ncc_ascent,
    ravel,
    ssimh,
    supervised,
    tone_curve,
)
from harmony_lite.methods.base import Harmonizer, load_method, method_class, names

__all__ = [
    "Harmonizer",
    "adversarial",
    "bias_correction",
    "blindharmony",
    "classical",
    "combat",
    "intensity_standards",
    "load_method",
    "method_class",
    "mispel",
    "names",
    "ncc_ascent",
    "ravel",
    "ssimh",
    "supervised",
    "tone_curve",
]
