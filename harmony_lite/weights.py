"""Weights that are shipped or cached: safetensors with a card beside, which says how they came about.

`NAME.safetensors` holds the tensors and no code; `NAME.json` is the card, with the SHA-256 of the weights.
Weights and card are read together or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from torch import Tensor, nn

from harmony_lite.storage import cache_folder, written_whole

__all__ = [
    "SHIPPED",
    "SIZE_LIMIT",
    "TOTAL_LIMIT",
    "Card",
    "card_path",
    "current_commit",
    "current_hardware",
    "load",
    "read_card",
    "save",
    "settings_as_stored",
    "settings_to_store",
    "shipped",
    "without_counters",
    "write_pair",
]

SHIPPED = Path(__file__).parent / "shipped"
SIZE_LIMIT = 10_000_000  # bytes that one shipped file may have, and
TOTAL_LIMIT = 100_000_000  # all of them together, so that a clone stays small
Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Card:
    """Where weights come from.

    Attributes:
        sha256: of the safetensors file, 64 hexadecimal digits.
        command: what makes them again.
        profile: `quick` or `full`.
        data_seed: seed of the simulated cohort that they were trained on.
        commit: of the code, with `-dirty` where files had been changed since; `unknown` outside a checkout.
        hardware: processor or GPU, and torch's version.
        precision: of the arithmetic in training, as Lightning Fabric names it.
        minutes: of training, wall clock.
        metric: what they reached when they were saved, by name.
        fingerprint: one number that the beginning of the training gives in float32 on a CPU, on a few people; a test
            repeats it. None for weights that no recipe of the package makes.
        settings: of the network and its training, by name; a method is built as they say (`settings_as_stored`).
        recipe: whatever else decided the training: its `name` (method and variant), people, scanners, spacing.
        curves: of each part that was trained, by name: `unit` and `points`, at most 20 pairs of a step and a validation
            (smaller is better). Empty where nothing is trained step by step.
        converged: whether no part gained anything worth having in the last fifth of its training
            (`harmony_lite.training.History`); None where nothing is trained step by step, or no curve was kept.
    """

    sha256: str
    command: str
    profile: str
    data_seed: int
    commit: str
    hardware: str
    precision: str
    minutes: float
    metric: dict[str, Any]
    fingerprint: float | None
    settings: dict[str, Any]
    recipe: dict[str, Any]
    curves: dict[str, Any]
    converged: bool | None


def save(
    tensors: Mapping[str, Tensor],
    path: str | Path,
    *,
    command: str,
    profile: str,
    data_seed: int,
    minutes: float,
    metric: Mapping[str, Any],
    recipe: Mapping[str, Any],
    settings: Mapping[str, Any] | None = None,
    fingerprint: float | None = None,
    curves: Mapping[str, Any] | None = None,
    converged: bool | None = None,
    precision: str = "32-true",
    commit: str | None = None,
    hardware: str | None = None,
    half: bool = True,
    limit: int | None = SIZE_LIMIT,
) -> Card:
    """Write weights and their card, each beside its place first and then renamed.

    Args:
        tensors: any shapes; floating-point tensors are stored as float16 or float32, others as they are.
        path: ends in `.safetensors`; its folder is made. The card goes to the same name with `.json`.
        command: what makes them again.
        profile: `quick` or `full`.
        data_seed: seed of the cohort that they were trained on.
        minutes: of training.
        metric: what they reach, by name.
        recipe: whatever else decided the training.
        settings: of the network and its training, as `settings_to_store` gives them; of nothing when None.
        fingerprint: as on the card; so are the next three.
        curves: of each part that was trained.
        converged: whether the training was long enough.
        precision: of the arithmetic.
        commit: of the code; asked of the checkout where it is left out.
        hardware: asked of the machine where it is left out.
        half: float16, which keeps three significant digits and nothing beyond 65504; False for float32.
        limit: bytes that the file may have; None for weights that stay in the cache.

    Raises:
        ValueError: another suffix, no tensors, a value that is not finite or too large for float16, a file over the
            limit, a card that JSON cannot hold.
    """
    path = _weights_path(path)
    if not tensors:
        raise ValueError(f"{path.name}: found no tensors to save, wanted at least one")
    data = safetensors.torch.save({name: _stored(name, tensor, half, path) for name, tensor in tensors.items()})
    if limit is not None and len(data) > limit:
        raise ValueError(f"{path.name}: found {len(data):,} bytes of weights, wanted at most {limit:,}")
    card = Card(
        sha256=hashlib.sha256(data).hexdigest(),
        command=command,
        profile=profile,
        data_seed=data_seed,
        commit=current_commit() if commit is None else commit,
        hardware=current_hardware() if hardware is None else hardware,
        precision=precision,
        minutes=minutes,
        metric=dict(metric),
        fingerprint=fingerprint,
        settings=dict(settings or {}),
        recipe=dict(recipe),
        curves=dict(curves or {}),
        converged=converged,
    )
    write_pair(path, data, card)
    return card


def load(path: str | Path) -> tuple[dict[str, Tensor], Card]:
    """Read weights and their card.

    Returns:
        The tensors by name, on the CPU, floating-point ones as float32, and the card.

    Raises:
        FileNotFoundError: no weights, or no card beside them.
        ValueError: a card that cannot be read, weights whose SHA-256 is not the card's, or that are no safetensors.
    """
    path = _weights_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: found no such file, wanted weights; `make weights` makes the shipped ones")
    card = read_card(path)
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != card.sha256:
        raise ValueError(f"{path}: found weights with SHA-256 {found}, wanted {card.sha256} as on their card")
    try:
        tensors = safetensors.torch.load(data)
    except Exception as error:  # the library's own error is a plain Exception subclass and changes between versions
        raise ValueError(f"{path}: found a file that is no safetensors file, wanted one: {error}") from error
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}, card


def settings_to_store(settings: Any) -> dict[str, Any]:
    """A settings dataclass as a card holds it; functions among its values are left out. Empty for anything else."""
    values = asdict(settings) if is_dataclass(settings) else {}
    return {name: value for name, value in values.items() if not callable(value)}


def settings_as_stored(current: Settings, stored: Mapping[str, Any]) -> Settings:
    """The settings that a card holds, as a dataclass of the type of `current`, whose functions are kept.

    Settings may hold settings.

    Raises:
        ValueError: other names than the dataclass has.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Sizes:
    ...     widths: tuple[int, ...] = (1, 2)
    >>> settings_as_stored(Sizes(), {"widths": [4, 8]})
    Sizes(widths=(4, 8))
    """
    wanted = settings_to_store(current)
    if set(stored) != set(wanted):
        raise ValueError(f"settings: found {', '.join(sorted(stored))}, wanted {', '.join(sorted(wanted))}")
    return replace(current, **{name: _as_in(getattr(current, name), value) for name, value in stored.items()})


def _as_in(current: Any, stored: Any) -> Any:
    """A value of a card with the type that the settings have: JSON knows neither tuples nor dataclasses."""
    if is_dataclass(current):
        return settings_as_stored(current, stored)
    return tuple(stored) if isinstance(stored, list) else stored


def shipped(method: str, variant: str, profile: str) -> Path:
    """Path of a method's weights: one's own in the cache folder's `weights` first, then those in the package.

    Args:
        method: the method's name; hyphens and underscores are both accepted.
        variant: the reading of the method, as in its `variants`; VARIANT.TARGET for another target than the usual one.
        profile: `quick` or `full`.

    Raises:
        FileNotFoundError: neither place has the file.
    """
    name = f"{method.replace('_', '-')}.{variant}.{profile}.safetensors"
    own = cache_folder() / "weights" / name
    for path in (own, SHIPPED / name):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{name}: found in neither {own.parent} nor {SHIPPED}; `make weights` makes it")


def without_counters(network: nn.Module) -> dict[str, Tensor]:
    """A network's tensors but the counters of batch normalization: nothing depends on them, and names cost bytes."""
    return {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}


def _write(path: Path, data: bytes) -> None:
    with written_whole(path) as part:
        part.write_bytes(data)


def current_commit() -> str:
    """The checkout's commit, with `-dirty` where tracked files have been changed; `unknown` outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def current_hardware() -> str:
    """The GPU's name, or the processor's architecture and cores, and torch's version."""
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    else:
        device = f"{platform.machine()} CPU, {torch.get_num_threads()} of {os.cpu_count()} threads"
    return f"{device}, torch {torch.__version__}"


def _weights_path(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: found the suffix {path.suffix!r}, wanted '.safetensors'")
    return path


def card_path(path: Path) -> Path:
    """Where the card of a weights file lies."""
    return path.with_suffix(".json")


def _stored(name: str, tensor: Tensor, half: bool, path: Path) -> Tensor:
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{path.name}: found values in {name!r} that are NaN or infinite, wanted finite ones")
        tensor = tensor.half() if half else tensor.float()
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{path.name}: found values in {name!r} beyond 65504, wanted smaller ones, or half=False")
    return tensor.contiguous().clone()  # safetensors refuses two names for one memory


def write_pair(path: Path, data: bytes, card: Card) -> None:
    """Write a file of weights and then its card, each beside its place first and then renamed.

    An interruption between the two leaves a pair whose hashes differ, which `load` refuses.

    Raises:
        ValueError: a card that JSON cannot hold; nothing is written then.
    """
    try:
        text = json.dumps(asdict(card), indent=2, sort_keys=True, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ValueError(f"{card_path(path).name}: found a card that JSON cannot hold: {error}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, data)
    _write(card_path(path), text.encode())


def read_card(path: Path) -> Card:
    """The card of a weights file, without the weights.

    Raises:
        FileNotFoundError: no card.
        ValueError: a card that cannot be read.
    """
    path = card_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: found no such file, wanted the card of the weights beside it")
    wanted = sorted(field.name for field in fields(Card))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not UTF-8, or not JSON
        raise ValueError(f"{path}: found a card that is not JSON, wanted JSON: {error}") from error
    if not isinstance(content, dict) or sorted(content) != wanted:
        found = ", ".join(sorted(content)) if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{path}: found a card with {found}, wanted {', '.join(wanted)}")
    return Card(**content)
