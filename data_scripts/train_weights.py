"""Make the shipped weights again: every method's recipe on the active profile's target training people.

    python data_scripts/train_weights.py [NAME ...]

The cohort is simulated from the profile's seed and split by person: training people first, then validation people,
whose mean PSNR goes on the card; test people are never touched. Each file lies in `harmony_lite/shipped` with a card.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from statistics import fmean
from typing import Any

import torch
from tqdm import tqdm

from harmony_lite import methods, weights
from harmony_lite.cohort import Cohort
from harmony_lite.evaluate import metrics
from harmony_lite.evaluate.experiments import mispel
from harmony_lite.evaluate.experiments.fits import Fitted, largest_tissue
from harmony_lite.evaluate.report import report
from harmony_lite.images.intensity_maps import MAPS
from harmony_lite.methods.base import Harmonizer
from harmony_lite.methods.domain_networks import DomainNetworks
from harmony_lite.methods.mispel import Mispel
from harmony_lite.profiles import active
from harmony_lite.storage import cache_folder
from harmony_lite.tasks.segmentation import WhiteMatterUNet

TARGET = "oasis_trio"
SCANNERS = (TARGET, "oasis_vision", "oasis_sonata")  # two sources for the card's metric
TABLE_2 = (TARGET, "oasis_vida", "oasis_vision", "oasis_biograph", "oasis_trio_b")  # BlindHarmony's source scanners
TABLE_1 = ("exp", "log", "gamma0.7")  # its maps
FIRST = 2  # people of the short retraining that the test repeats
JUDGE = WhiteMatterUNet.name


def training_and_validation_people(name: str = "", variant: str = "") -> tuple[Cohort, Cohort]:
    """The profile's training and validation people, who share nobody, on the domains that a recipe needs."""
    profile = active()
    if name == Mispel.name:
        fitted = Fitted(cache_folder() / "corrected")  # where scans are kept after N4
        return tuple(fitted.without_fields(group) for group in mispel.PEOPLE(mispel.PEOPLE_ON)[:2])
    by_domain = name and name != JUDGE and issubclass(methods.method_class(name), DomainNetworks)
    scanners = TABLE_2 if by_domain else SCANNERS
    sizes = profile.train_subjects, profile.validation_subjects
    everyone = Cohort.simulate(sum(sizes), scanners, profile.spacing, profile.seed)
    if by_domain and variant == "maps":
        everyone = everyone.with_maps({curve: MAPS[curve] for curve in TABLE_1})
    return everyone.split(*sizes)


def variants_of(name: str) -> tuple[str, ...]:
    """Those that have weights of their own."""
    if name == JUDGE:
        return (WhiteMatterUNet.variant,)
    return methods.method_class(name).shipped_variants or methods.method_class(name).variants


def first_steps(name: str, variant: str, training: Cohort) -> float:
    """What the recipe begins with on the first two people only; a test repeats it and holds it against the card."""
    few = training.subset(range(FIRST))
    if name == JUDGE:
        losses = fitted_judge(few, steps=3).history.losses
        return sum(losses) / len(losses)
    method = unfitted(name, variant)
    return method.first_steps(few.view(method.needs))


def unfitted(name: str, variant: str) -> Harmonizer:
    """The method as the recipe fits it; MISPEL's people come after N4."""
    method = methods.load_method(name, variant, fitted=False)
    return method.on_corrected() if name == Mispel.name else method


def fitted_judge(training: Cohort, **options: Any) -> WhiteMatterUNet:
    """The white-matter U-Net after training on the target's scans, or after some `steps` of it."""
    white = (largest_tissue(training) == 3).bool()
    return WhiteMatterUNet().fit(
        training.scans(TARGET), training.mask, white, progress="steps" not in options, **options
    )


def train(name: str, variant: str, *, commit: str) -> weights.Card:
    """Fit one method, or the judge, measure it on the validation people, and ship it."""
    profile = active()
    training, validation = training_and_validation_people(name, variant)
    first = first_steps(name, variant, training)
    checkpoint = cache_folder() / "training" / f"{name}.{variant}.{profile.name}.checkpoint"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    if name == JUDGE:
        fitted, is_trained = fitted_judge(training, checkpoint=checkpoint), True
        metric = {"validation white-matter iou": overlaps(fitted, validation)}
    else:
        fitted = unfitted(name, variant)
        is_trained = fitted.is_trained
        fitted.fit(training.view(fitted.needs), **({"checkpoint": checkpoint} if is_trained else {}))
        if name == Mispel.name:
            metric = between_scanners(fitted, validation)
        else:
            metric = {"validation psnr dB": psnr(fitted, validation)}
    seconds = fitted.history.seconds if is_trained else time.perf_counter() - began
    return weights.save(
        fitted.state(),
        weights.SHIPPED / f"{name}.{variant}.{profile.name}.safetensors",
        command=f"HARMONY_PROFILE={profile.name} python data_scripts/train_weights.py {name}",
        profile=profile.name,
        data_seed=profile.seed,
        minutes=round(seconds / 60, 3),
        metric={**metric, "first steps": first},
        recipe={
            "people": len(training),
            **({"scanners": training.scanners} if name == Mispel.name else {"target": TARGET}),
            "spacing mm": profile.spacing,
            **asdict(fitted.settings),
        },
        commit=commit,
        half=is_trained,  # a standard's intensities want more than three digits, and its files are small
    )


def psnr(method: Harmonizer, validation: Cohort) -> dict[str, float]:
    """Mean over the validation people, by source."""
    table = report(method, validation, measures=["psnr"], rescan=False)
    return table[table.row == "harmonized"].groupby("scanner").value.mean().round(2).to_dict()


def between_scanners(method: Harmonizer, validation: Cohort) -> dict[str, dict[str, float]]:
    """How alike the scanners are, and what is left of lesions and noise, mean over the validation people."""
    return {
        f"validation, {row}": {name: round(fmean(one[name] for one in people), 4) for name in people[0]}
        for row, people in mispel.before_and_after(method, validation).items()
    }


def overlaps(judge: WhiteMatterUNet, validation: Cohort) -> dict[str, float]:
    """Intersection over union with the true white matter, mean over the validation people, by scanner."""
    white = (largest_tissue(validation) == 3).to(torch.uint8)
    found = {s: judge.segment(validation.scans(s), validation.mask).to(torch.uint8) for s in validation.scanners}
    return {s: round(float(metrics.iou(f, white, labels=[1]).mean()), 4) for s, f in found.items()}


def main() -> None:
    """Train what is named, or everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"names of methods, or {JUDGE}; all of them when absent")
    asked = [name if name == JUDGE else methods.method_class(name).name for name in parser.parse_args().names]
    names = asked or [JUDGE, *(name for name in methods.names() if methods.method_class(name).is_shipped)]
    jobs = [(name, variant) for name in names for variant in variants_of(name)]
    commit = weights.current_commit()  # before the first file is replaced, which makes the checkout dirty
    for name, variant in tqdm(jobs, desc="weights", unit="file"):
        card = train(name, variant, commit=commit)
        tqdm.write(f"{name}.{variant}: {card.metric} ({card.minutes:.2f} min)")


if __name__ == "__main__":
    main()
