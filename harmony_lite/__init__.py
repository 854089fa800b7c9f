"""harmony_lite: five papers on MRI harmonization, runnable.

The public names are loaded when they are first used, so that importing the package stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "Cohort": ("harmony_lite.cohort", "Cohort"),
    "images": ("harmony_lite.images", None),
    "load_method": ("harmony_lite.methods", "load_method"),
    "methods": ("harmony_lite.methods", None),
    "metrics": ("harmony_lite.evaluate.metrics", None),
    "nets": ("harmony_lite.nets", None),
    "report": ("harmony_lite.evaluate.report", "report"),
    "simulate": ("harmony_lite.simulate", None),
}

__all__ = ["Cohort", "__version__", "images", "load_method", "methods", "metrics", "nets", "report", "simulate"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'harmony_lite' has no attribute {name!r}")
    module, attribute = _WHERE[name]
    loaded = import_module(module)
    return loaded if attribute is None else getattr(loaded, attribute)


def __dir__() -> list[str]:
    return __all__
