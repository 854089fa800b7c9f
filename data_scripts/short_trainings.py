"""The loop of a sweep: short trainings, each with one thing changed, measured one after the other.

Every training is kept in the cache folder: an interrupted run goes on where it stopped. No weights are shipped.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import torch
from compute_ledger import code_hash, here
from tqdm import tqdm

from harmony_lite.profiles import active
from harmony_lite.storage import cache_folder, written_whole

__all__ = ["Condition", "sweep"]


class Condition(Protocol):
    """One training: what part of the sweep it belongs to, and the name by which its result is known."""

    part: str
    name: str


def sweep(conditions: Iterable[Any], measured: Callable[[Any], dict[str, Any]], path: Path, about: str) -> None:
    """Train and measure what the command line names, or everything.

    Args:
        conditions: all of them, each a `Condition`.
        measured: trains one and says what came out, as JSON can hold it.
        path: of the file that is written, after every training.
        about: the command's first line of help.
    """
    conditions = list(conditions)
    parser = argparse.ArgumentParser(description=about)
    parts = list(dict.fromkeys(condition.part for condition in conditions))
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(parts)}; all of them when absent")
    asked = parser.parse_args().parts or parts
    if set(asked) - set(parts):
        parser.error(f"parts: found {', '.join(asked)}, wanted some of {', '.join(parts)}")
    torch.set_num_threads(1)
    os.environ["TQDM_DISABLE"] = "1"
    folder = cache_folder() / "sweeps" / f"{active().name}-{code_hash()}"
    made = here()  # before the first file is replaced, which makes the checkout dirty
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for condition in tqdm([c for c in conditions if c.part in asked], desc="sweeps", unit="training", disable=False):
        kept = folder / f"{path.parent.name}, {condition.part}, {condition.name}.json"
        if not kept.is_file():
            kept.parent.mkdir(parents=True, exist_ok=True)
            found = {**measured(condition), "made": made}
            with written_whole(kept) as part:
                part.write_text(json.dumps(found), encoding="utf-8")
        content.setdefault(condition.part, {})[condition.name] = json.loads(kept.read_text(encoding="utf-8"))
        with written_whole(path) as part:
            part.write_text(_text(content), encoding="utf-8")


def _text(content: dict[str, Any]) -> str:
    """JSON with one training a line."""
    parts = []
    for part, found in content.items():
        lines = ",\n".join(
            f"  {json.dumps(name)}: {json.dumps(value, allow_nan=False)}" for name, value in found.items()
        )
        parts.append(f" {json.dumps(part)}: {{\n{lines}\n }}")
    return "{\n" + ",\n".join(parts) + "\n}\n"
