"""Methods by name: `names()` lists them, `load_method(name)` gives one with its shipped weights.

A folder of methods (`methods/classical`, `methods/trained`, `papers/NAME`) says in its `METHODS` which it has, each as
"module:Class"; nothing is imported before it is asked for. Another package brings methods of its own by the entry point
group `harmony_lite.methods`, in the same form:

    [project.entry-points."harmony_lite.methods"]
    my-method = "my_package.my_module:MyMethod"
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

from harmony_lite.methods.protocol import Harmonizer
from harmony_lite.methods.shipping import Shipping

__all__ = ["Harmonizer", "Shipping", "load_method", "method_class", "names"]

GROUP = "harmony_lite.methods"
ROOMS = ("methods", "papers")  # whose folders may hold methods


@cache
def _places() -> dict[str, str]:
    """Where each method is, "module:Class", by its name.

    Raises:
        ValueError: one name twice.
    """
    package = Path(__file__).parents[1]
    folders = [folder for room in ROOMS for folder in sorted((package / room).iterdir())]
    found: list[tuple[str, str]] = []
    for folder in folders:
        if (folder / "__init__.py").is_file():
            module = import_module(f"harmony_lite.{folder.parent.name}.{folder.name}")
            found += getattr(module, "METHODS", {}).items()
    found += [(point.name, point.value) for point in entry_points(group=GROUP)]
    places: dict[str, str] = {}
    for name, place in found:
        if places.setdefault(name, place) != place:
            raise ValueError(f"method {name}: found two, {places[name]} and {place}, wanted one")
    return places


def names() -> list[str]:
    """Names of all methods, hyphenated."""
    return sorted(_places())


def method_class(name: str) -> type[Harmonizer]:
    """The class behind a name; hyphens and underscores are both accepted.

    Raises:
        ValueError: an unknown name (the message lists the known ones), or a method that cannot be loaded.
    """
    key = name.replace("_", "-").lower()
    if key not in _places():
        raise ValueError(f"method: found {name!r}, wanted one of {', '.join(names())}")
    module, _, attribute = _places()[key].partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:  # somebody else's package, or a place written wrongly
        raise ValueError(f"method {key}: found nothing at {_places()[key]} ({error}), wanted a class") from error


def load_method(name: str, variant: str | None = None, *, target: str | None = None, fitted: bool = True) -> Harmonizer:
    """A method by name, with the weights that are shipped for the active profile.

    Args:
        name: as in `names()`; hyphens and underscores are both accepted.
        variant: one of the method's `variants`; the first one when absent.
        target: the scanner that images are brought to, where weights for several come (`Shipping`); the usual one when
            absent.
        fitted: False gives the method unfitted, for `fit`.

    Raises:
        ValueError: unknown name, variant or target (found and wanted are named).
        FileNotFoundError: no weights are shipped for this method, variant and profile.
    """
    cls = method_class(name)
    variant = cls.variants[0] if variant is None else variant
    if variant not in cls.variants:
        raise ValueError(f"variant of {cls.name}: found {variant!r}, wanted one of {', '.join(cls.variants)}")
    method = cls.from_variant(variant)
    return method.load(cls.shipped_weights(variant, target)) if fitted else method
