"""Which measured cells rest on weights that had been trained too briefly, by what the weights' cards say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from harmony_lite import weights
from harmony_lite.ledger.results import cell_name
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
            judge.
    """
    brief = _brief()
    return frozenset(cell_name(row) for row in rows if {*row.get("weights", "").split("+"), row["by"]} & brief)


@cache
def _brief() -> frozenset[str]:
    """Hashes of the shipped weights that had not converged, and the names of judges among them."""
    cards = {path: weights.read_card(path) for path in weights.SHIPPED.glob("*.safetensors")}
    brief = {path: card for path, card in cards.items() if card.converged is False}
    judges = {one.classifier for one in JUDGES for path in brief if path.name.startswith(f"{one.name}.")}
    return frozenset({card.sha256 for card in brief.values()} | judges)
