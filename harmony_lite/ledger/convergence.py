"""Which measured cells rest on networks that had been trained too briefly: by what cards say, and all of a sweep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from harmony_lite import weights
from harmony_lite.ledger.results import cell_name
from harmony_lite.papers.sweeps import SHORT_TRAINING
from harmony_lite.tasks.age_network import AgeNetwork
from harmony_lite.tasks.segmentation import WhiteMatterUNet
from harmony_lite.tasks.structures import StructureUNet
from harmony_lite.tasks.tissue_unet import TissueUNet

__all__ = ["trained_too_briefly"]

JUDGES = (WhiteMatterUNet, StructureUNet, TissueUNet, AgeNetwork)


def trained_too_briefly(rows: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Names of the cells whose method or whose judge had not converged when its weights were saved.

    Args:
        rows: of a results file; `weights` is the SHA-256 of the method's shipped weights, or several; `by` names the
            judge; `variant` is that of a method, or `SHORT_TRAINING`.
    """
    brief = _brief() | {SHORT_TRAINING}
    words = {cell_name(row): {*row.get("weights", "").split("+"), row["by"], row.get("variant")} for row in rows}
    return frozenset(name for name, found in words.items() if found & brief)


@cache
def _brief() -> frozenset[str]:
    """Hashes of the shipped weights that had not converged, and the names of judges among them."""
    cards = {path: weights.read_card(path) for path in weights.SHIPPED.glob("*.safetensors")}
    brief = {path: card for path, card in cards.items() if card.converged is False}
    judges = {one.classifier for one in JUDGES for path in brief if path.name.startswith(f"{one.name}.")}
    return frozenset({card.sha256 for card in brief.values()} | judges)
