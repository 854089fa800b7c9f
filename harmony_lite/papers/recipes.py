"""How shipped weights are made: on which people, by what training, and which validation score their card says.

A paper's `recipe.py` names its recipes in `RECIPES`: those of its methods, and those of its judges. A judge is a
network that scores methods, as the white-matter U-Net does (`harmony_lite.tasks`). A shipped method without a recipe
there is trained on the target's training people; its card says the PSNR on two scanners.
`data_scripts/train_weights.py` and `data_scripts/train_on_gpu.py` run the recipes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, Self

from torch import Tensor

from harmony_lite import weights
from harmony_lite.cohort import Cohort
from harmony_lite.evaluate.report import report
from harmony_lite.methods import Harmonizer, Shipping, load_method, method_class, names
from harmony_lite.papers import published
from harmony_lite.profiles import QUICK, active
from harmony_lite.splits import people
from harmony_lite.training import History

__all__ = [
    "FEW",
    "Recipe",
    "Trainable",
    "judge_recipe",
    "method_recipe",
    "psnr_by_scanner",
    "recipes",
    "training_and_validation",
]

TARGET = "oasis_trio"
SCANNERS = (TARGET, "oasis_vision", "oasis_sonata")  # two sources for the card's metric
FEW = 2  # people of the short retraining that a test repeats
FEW_SLICES = 8  # in each of its batches, at most


class Trainable(Protocol):
    """What a recipe makes: a method or a judge."""

    settings: Any
    is_trained: bool
    histories: Mapping[str, History]

    def state(self) -> dict[str, Tensor]:
        """What was learned."""

    def take_settings(self, stored: Mapping[str, Any]) -> Self:
        """Take over the settings that a card holds."""


@dataclass(frozen=True)
class Recipe:
    """How one file of weights is made.

    Attributes:
        name: of the method, or of the judge.
        variant: whose weights they are; VARIANT.TARGET for another target than the usual one.
        people: training and validation people, who share nobody.
        untrained: a method or a judge, with the settings of the active profile.
        train: trains it on people, and goes on from the checkpoint's path where one is given and exists.
        begin: trains it for the first steps and returns one number that a test recognises, such as their mean loss.
        metric: what the card says of the validation people.
        about: what else the card says of the training.
        share: how much of a GPU's minutes it wants, beside the other recipes (`data_scripts/train_on_gpu.py`).
    """

    name: str
    variant: str
    people: Callable[[], tuple[Cohort, Cohort]]
    untrained: Callable[[], Trainable]
    train: Callable[[Trainable, Cohort, Path | None], Trainable]
    begin: Callable[[Trainable, Cohort], float]
    metric: Callable[[Any, Cohort], Mapping[str, Any]]
    about: Callable[[Cohort], Mapping[str, Any]]
    share: float = 1.0

    @property
    def label(self) -> str:
        """`METHOD.VARIANT`."""
        return f"{self.name}.{self.variant}"

    @property
    def path(self) -> Path:
        """Where the weights are shipped, for the active profile or once for all."""
        by_profile = self.name not in names() or _shipping(self.name).by_profile
        profile = active().name if by_profile else QUICK.name
        return weights.SHIPPED / f"{self.label}.{profile}.safetensors"

    def fingerprint(self, training: Cohort, settings: Mapping[str, Any] | None = None) -> float:
        """The number for a card: the first steps on `FEW` of the people, in float32 on a CPU, with small batches.

        Args:
            training: the recipe's training people.
            settings: those on a card; the recipe's own when None.
        """
        trainable = self.untrained()
        stored = _small_and_exact(settings or weights.settings_to_store(trainable.settings))
        return self.begin(trainable.take_settings(stored), training.subset(range(FEW)))

    def facts(self, trained: Trainable, training: Cohort) -> dict[str, Any]:
        """What the card says of a training but its command, time and score, as `harmony_lite.weights.save` takes it."""
        recipe = {
            "name": self.label,
            "people": len(training),
            **self.about(training),
            "spacing mm": active().spacing,
        }
        settings = weights.settings_to_store(trained.settings)
        return {"settings": settings, "recipe": recipe, **History.described(trained.histories)}


def _small_and_exact(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a card, those within settings too, with batches of at most `FEW_SLICES` and in float32."""
    changed = {
        name: _small_and_exact(value) if isinstance(value, Mapping) else value for name, value in settings.items()
    }
    if "batch" in changed:
        changed["batch"] = min(changed["batch"], FEW_SLICES)
    return changed | ({"precision": "32-true"} if "precision" in changed else {})


def method_recipe(
    name: str,
    variant: str,
    *,
    target: str = "",
    people: Callable[[], tuple[Cohort, Cohort]] | None = None,
    untrained: Callable[[], Harmonizer] | None = None,
    metric: Callable[[Any, Cohort], Mapping[str, Any]] | None = None,
    about: Callable[[Cohort], Mapping[str, Any]] | None = None,
    share: float = 1.0,
) -> Recipe:
    """The recipe of a method; what is left out is as for a method without a recipe in a paper.

    `target` is named for a file that `Shipping.also` has besides the variant's usual one; `people` then have it first.

    Raises:
        ValueError: a method whose class says that no weights come with the package.
    """
    _shipping(name)

    def train(method: Harmonizer, training: Cohort, checkpoint: Path | None) -> Harmonizer:
        options = {"checkpoint": checkpoint} if method.is_trained else {}
        return method.fit(training.view(method.needs), **options)

    def begin(method: Harmonizer, few: Cohort) -> float:
        return method.fingerprint(few.view(method.needs))

    return Recipe(
        name,
        f"{variant}.{target}" if target else variant,
        people or training_and_validation,
        untrained or partial(load_method, name, variant, fitted=False),
        train,
        begin,
        metric or psnr_by_scanner,
        about or (lambda training: {"target": training.scanners[0]}),
        share,
    )


def judge_recipe(
    name: str,
    variant: str,
    *,
    people: Callable[[], tuple[Cohort, Cohort]],
    untrained: Callable[[], Trainable],
    lesson: Callable[[Cohort], tuple[Tensor, ...]],
    metric: Callable[[Any, Cohort], Mapping[str, Any]],
    target: str,
    share: float = 0.5,
) -> Recipe:
    """The recipe of a judge: `lesson` takes from people what its `fit` wants, the target's scans and the truth."""

    def train(judge: Any, training: Cohort, checkpoint: Path | None) -> Trainable:
        return judge.fit(*lesson(training), checkpoint=checkpoint)

    def begin(judge: Any, few: Cohort) -> float:
        losses = judge.fit(*lesson(few), steps=3, progress=False).history.losses
        return sum(losses) / len(losses)

    return Recipe(name, variant, people, untrained, train, begin, metric, lambda _: {"target": target}, share)


def _shipping(name: str) -> Shipping:
    shipping = method_class(name).shipping
    if shipping is None:
        raise ValueError(f"recipe of {name}: found a class without `shipping`, wanted one that says which weights come")
    return shipping


def training_and_validation() -> tuple[Cohort, Cohort]:
    """Training and validation people of the active profile on the target and two sources."""
    return people(SCANNERS)[:2]


def psnr_by_scanner(method: Harmonizer, validation: Cohort) -> dict[str, dict[str, float]]:
    """PSNR in dB, mean over the validation people, by source."""
    table = report(method, validation, measures=["psnr"])
    return {"validation psnr dB": table.groupby("scanner").value.mean().round(2).to_dict()}


def recipes() -> list[Recipe]:
    """Every recipe: those that papers name, and one for each further variant with weights of its own."""
    modules = sorted(published.FOLDER.glob("*/recipe.py"))
    named = [
        recipe for path in modules for recipe in import_module(f"harmony_lite.papers.{path.parent.name}.recipe").RECIPES
    ]
    known = {(recipe.name, recipe.variant) for recipe in named}
    others = [
        method_recipe(name, variant)
        for name in names()
        if (shipping := method_class(name).shipping) is not None
        for variant in shipping.variants or method_class(name).variants
        if (name, variant) not in known
    ]
    return sorted([*named, *others], key=lambda recipe: (recipe.name, recipe.variant))
