"""Bring weights that were trained elsewhere into the package, in place of those that are shipped.

    python data_scripts/adopt_weights.py OUT

OUT is a folder that `data_scripts/train_on_gpu.py` filled: tars, or weights with their cards as they are. Everything is
checked before the first file is replaced: the hash, the size, that the card is of the recipe whose name the file has,
that the tensors are those of its settings. The number that a test repeats (`fingerprint`) is computed here, in float32
on the CPU, on the active profile's people. `make ledger` has to follow: its rows belong to the weights.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from train_on_gpu import members_of, trained_recipes

from harmony_lite import weights
from harmony_lite.papers.recipes import Recipe


def unpacked(out: Path, folder: Path) -> list[Path]:
    """The weights in OUT, as files in a folder.

    Raises:
        ValueError: nothing there.
    """
    for path in sorted(out.glob("*.tar")):
        for name, data in members_of(path).items():
            (folder / Path(name).name).write_bytes(data)
    for path in sorted(out.glob("*.safetensors")):
        for one in (path, weights.card_path(path)):
            if one.is_file():
                shutil.copy(one, folder)
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        raise ValueError(f"{out}: found no weights, wanted tars of train_on_gpu.py, or NAME.safetensors with NAME.json")
    return found


def checked(path: Path, known: dict[str, Recipe]) -> tuple[Recipe, weights.Card]:
    """The recipe and the card of weights that may be shipped.

    Raises:
        FileNotFoundError: no card.
        ValueError: an unknown recipe, a card of another recipe, a hash that does not fit, a file over the limit,
            tensors of another network than the card's settings say.
    """
    recipe = known.get(path.stem)
    if recipe is None:
        raise ValueError(f"{path.name}: found no such recipe, wanted one of {', '.join(known)}")
    size = path.stat().st_size
    if size > weights.SIZE_LIMIT:
        raise ValueError(f"{path.name}: found {size:,} bytes, wanted at most {weights.SIZE_LIMIT:,}")
    _, card = weights.load(path)
    if card.recipe.get("name") != path.stem:
        raise ValueError(f"{path.name}: found the card of the recipe {card.recipe.get('name')!r}, wanted {path.stem!r}")
    recipe.untrained().load(path)  # tensors that the settings do not fit are refused
    return recipe, card


def adopt(out: Path) -> list[str]:
    """Check everything in OUT, then replace what is shipped; returns a line for each file."""
    known, lines = trained_recipes(), []
    with TemporaryDirectory() as folder:
        found = {path: checked(path, known) for path in unpacked(out, Path(folder))}
        cards = {}
        for path, (recipe, card) in found.items():
            fingerprint = recipe.fingerprint(recipe.people()[0], card.settings)
            cards[path] = replace(card, fingerprint=fingerprint)
        total = sum(path.stat().st_size for path in found)
        kept = {path for path in weights.SHIPPED.glob("*.safetensors")} - {recipe.path for recipe, _ in found.values()}
        total += sum(path.stat().st_size for path in kept)
        if total > weights.TOTAL_LIMIT:
            raise ValueError(f"{out}: found {total:,} bytes with what stays, wanted at most {weights.TOTAL_LIMIT:,}")
        for path, (recipe, card) in found.items():
            lines.append(change(recipe, card, path))
            weights.write_pair(recipe.path, path.read_bytes(), cards[path])
    return lines


def change(recipe: Recipe, card: weights.Card, path: Path) -> str:
    """What an adoption changes: sizes, minutes, whether the training had converged, scores."""
    line = f"{recipe.label}: {path.stat().st_size:,} bytes, {card.minutes:g} min, converged {card.converged}"
    line += f", {json.dumps(card.metric)}"
    if recipe.path.is_file():
        before = weights.read_card(recipe.path)
        line += (
            f"; before {recipe.path.stat().st_size:,} bytes, converged {before.converged}, {json.dumps(before.metric)}"
        )
    return line


def main(arguments: Sequence[str] | None = None) -> int:
    """Adopt, or say in one line what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="folder that train_on_gpu.py filled")
    given = parser.parse_args(arguments)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # fingerprints are those of a CPU
    try:
        print("\n".join(adopt(given.out)))
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
