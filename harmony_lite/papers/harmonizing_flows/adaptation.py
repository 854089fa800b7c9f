"""Equation 6: the harmonizer is moved until the flow finds its slices likely, and it has to be told when to stop.

Source: F. Beizaee et al., "Harmonizing Flows", 2023, section 3.2. The flow is frozen; all weights of the harmonizer
move. Likelihood alone never says stop: it goes on rising while the slices get smooth and empty. The paper names three
rules (its Table 3); the public code stops by none of them and leaves the choice to the reader.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam
from tqdm import tqdm

from harmony_lite.images.intensity_maps import TOP
from harmony_lite.nets.draws import evenly_spread, in_chunks
from harmony_lite.papers.harmonizing_flows.flow import GuidedFlow, bits_per_dimension, mean_bits
from harmony_lite.papers.harmonizing_flows.network import HarmonizerNetwork

__all__ = ["STOPS", "Adaptation", "AdaptationSettings", "Judge", "adapt", "adapt_by", "harmonized_levels"]

Judge = Callable[[HarmonizerNetwork], float]
LOOKED_AT = 48  # slices of the site, in each look at bits

# bits: those of the target's validation people are reached; minimum and plateau: of the task's entropy; oracle: the
# best score, which nobody has without labels; never: all steps are taken, and the last weights kept
STOPS = ("bits", "entropy minimum", "entropy plateau", "oracle", "never")


@dataclass(frozen=True)
class AdaptationSettings:
    """How the harmonizer is moved; the paper prints none of these numbers.

    Attributes:
        stop: of `STOPS`.
        learning_rate: of Adam; 4e-6 in the public code.
        batch: slices; the public code's.
        most_steps: the number of steps after which every rule stops; the public code takes 20 passes.
        check_every: steps between looks at bits, entropy or score.
        flat: share of the entropy that a check has to take away; after `patience` checks with less it is a plateau.
        patience: checks.
    """

    stop: str = "bits"
    learning_rate: float = 1e-5
    batch: int = 16
    most_steps: int = 40
    check_every: int = 1
    flat: float = 0.005
    patience: int = 3

    def __post_init__(self) -> None:
        if self.stop not in STOPS:
            raise ValueError(f"stop: found {self.stop!r}, wanted one of {', '.join(map(repr, STOPS))}")
        for name in ("batch", "most_steps", "check_every", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: found {getattr(self, name)}, wanted at least 1")


@dataclass(frozen=True)
class Adaptation:
    """What an adaptation did.

    Attributes:
        steps: at which was looked, 0 before the first.
        bits: per dimension of the harmonized slices at each look.
        judged: entropy or score at each look, where the rule has one.
        kept: the step whose weights were kept.
        reason: why there.
    """

    steps: list[int] = field(default_factory=list)
    bits: list[float] = field(default_factory=list)
    judged: list[float] = field(default_factory=list)
    kept: int = 0
    reason: str = ""


def harmonized_levels(network: HarmonizerNetwork, levels: Tensor) -> Tensor:
    """What the flow is given: h(x) within 0 to 255, background 0; (B, 1, H, W)."""
    return network(levels).clamp(0, TOP) * (levels > 0)


def adapt(
    network: HarmonizerNetwork,
    flow: GuidedFlow,
    levels: Tensor,
    settings: AdaptationSettings,
    generator: torch.Generator,
    *,
    judge: Judge | None = None,
    **options: Any,
) -> tuple[HarmonizerNetwork, Adaptation]:
    """A harmonizer for one site, from the pre-trained one, by the rule that the settings name.

    Args:
        network, flow, levels, settings, generator: as in `adapt_by`, and so are the options.
        judge: of the rule.

    Returns:
        The network of the kept step, and what happened.
    """
    stops = {settings.stop: judge}
    return adapt_by(network, flow, levels, settings, generator, stops=stops, **options)[settings.stop]


def adapt_by(
    network: HarmonizerNetwork,
    flow: GuidedFlow,
    levels: Tensor,
    settings: AdaptationSettings,
    generator: torch.Generator,
    *,
    stops: Mapping[str, Judge | None],
    target_bits: float | None = None,
    progress: bool = True,
) -> dict[str, tuple[HarmonizerNetwork, Adaptation]]:
    """Harmonizers for one site by several rules, which look at one and the same adaptation.

    Args:
        network: pre-trained; it stays as it is.
        flow: frozen; not a bit of it changes.
        levels: slices of the site, (B, 1, H, W) in 0 to 255, background 0.
        settings: rate and steps.
        generator: of batches and noise.
        stops: rules, each with its judge: network -> mean entropy of the task's predictions, or for "oracle" its score
            (larger is better); None for rules that need none. Each look asks a judge once, whatever rules have it.
        target_bits: mean bits per dimension of other people on the target; for the rule "bits".
        progress: show a bar.

    Returns:
        By rule, the network of the kept step, and what happened.

    Raises:
        ValueError: no slice, a rule without what it needs, a loss that is not finite.
    """
    for stop, judge in stops.items():
        _check(levels, replace(settings, stop=stop), target_bits, judge)
    moved = deepcopy(network).train()
    optimizer = Adam(moved.parameters(), lr=settings.learning_rate)
    looked_at = evenly_spread(levels, LOOKED_AT)
    noise = torch.rand(looked_at.shape, generator=generator)  # of every look, so that looks can be compared
    rules = {stop: _Rule(replace(settings, stop=stop), target_bits) for stop in stops}
    for parameter in flow.parameters():
        parameter.requires_grad_(False)
    try:
        for step in tqdm(range(settings.most_steps + 1), desc="adapting", unit="step", disable=not progress):
            if step % settings.check_every == 0 or step == settings.most_steps:
                with torch.no_grad():
                    harmonized = in_chunks(partial(harmonized_levels, moved), looked_at, levels.device)
                bits = mean_bits(flow, harmonized, noise)
                going_on = {stop: rule for stop, rule in rules.items() if not rule.has_ended}
                judged = {judge: judge(moved) for judge in {stops[stop] for stop in going_on} if judge}
                for stop, rule in going_on.items():
                    rule.look(step, bits, judged.get(stops[stop]), moved)
                if all(rule.has_ended for rule in rules.values()):
                    break
            if step < settings.most_steps:
                _step(moved, flow, levels, settings.batch, optimizer, generator)
    finally:
        for parameter in flow.parameters():
            parameter.requires_grad_(True)
    return {stop: (rule.network.eval(), rule.found) for stop, rule in rules.items()}


def _step(
    network: HarmonizerNetwork, flow: GuidedFlow, levels: Tensor, batch: int, optimizer: Adam, chance: torch.Generator
) -> None:
    """One step on Equation 6."""
    chosen = torch.randint(len(levels), (min(batch, len(levels)),), generator=chance)
    slices = levels[chosen]
    uniform = torch.rand(slices.shape, generator=chance)
    loss = bits_per_dimension(flow, harmonized_levels(network, slices), uniform).mean()
    if not bool(loss.isfinite()):
        raise ValueError(
            f"adaptation: found a loss of {loss.item()}, wanted a finite one; is the learning rate too large?"
        )
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


class _Rule:
    """When to stop, and which network to keep."""

    def __init__(self, settings: AdaptationSettings, target_bits: float | None) -> None:
        self.settings, self.target_bits = settings, target_bits
        self.found = Adaptation()
        self.has_ended = False
        self.network: HarmonizerNetwork | None = None  # of the kept step
        self._best: float | None = None
        self._flat_checks = 0
        self._decide = {
            "bits": self._bits,
            "entropy minimum": partial(self._best_of_all, "the smallest entropy", 1),
            "entropy plateau": self._entropy_plateau,
            "oracle": partial(self._best_of_all, "the best score", -1),
            "never": self._never,
        }[settings.stop]

    def look(self, step: int, bits: float, judged: float | None, network: HarmonizerNetwork) -> None:
        """Note a look at the network after some steps, and decide."""
        self.found.steps.append(step)
        self.found.bits.append(bits)
        if judged is not None:
            self.found.judged.append(judged)
        self._decide(step, bits, judged, network)

    def _keep(self, step: int, network: HarmonizerNetwork, reason: str) -> None:
        self.found = replace(self.found, kept=step, reason=reason)
        self.network = deepcopy(network)

    def _bits(self, step: int, bits: float, _: float | None, network: HarmonizerNetwork) -> None:
        self.has_ended = bits <= self.target_bits
        reached = "already below the target's bits at the start" if step == 0 else "the target's bits were reached"
        self._keep(step, network, reached if self.has_ended else "the last of the steps: still above the target's bits")

    def _never(self, step: int, _: float, __: float | None, network: HarmonizerNetwork) -> None:
        self._keep(step, network, "the last of the steps")

    def _best_of_all(
        self, reason: str, sign: int, step: int, _: float, judged: float, network: HarmonizerNetwork
    ) -> None:
        if self._best is None or sign * judged < self._best:
            self._best = sign * judged
            self._keep(step, network, reason)

    def _entropy_plateau(self, step: int, _: float, judged: float, network: HarmonizerNetwork) -> None:
        is_flat = self._best is not None and judged > self._best * (1 - self.settings.flat)
        self._flat_checks = self._flat_checks + 1 if is_flat else 0
        self.has_ended = self._flat_checks >= self.settings.patience
        self._best = judged if self._best is None else min(self._best, judged)
        self._keep(step, network, "the entropy is flat" if self.has_ended else "the last of the steps")


def _check(levels: Tensor, settings: AdaptationSettings, target_bits: float | None, judge: Judge | None) -> None:
    if levels.ndim != 4 or levels.shape[1] != 1 or not len(levels):
        raise ValueError(f"levels: found {tuple(levels.shape)}, wanted at least one slice, (B, 1, H, W)")
    if settings.stop == "bits" and target_bits is None:
        raise ValueError("target_bits: found none, wanted the target's bits per dimension for the rule 'bits'")
    if settings.stop in ("entropy minimum", "entropy plateau", "oracle") and judge is None:
        raise ValueError(f"judge: found none, wanted a function of the network for the rule {settings.stop!r}")
