"""Make the shipped weights again: every method's recipe on the active profile's target training people.

    python data_scripts/train_weights.py [METHOD ...]

The cohort is simulated from the profile's seed and split by person: training people first, then validation people,
whose mean PSNR goes on the card; test people are never touched. Each file lies in `harmony_lite/shipped` with a card.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict

from tqdm import tqdm

from harmony_lite import methods, weights
from harmony_lite.cohort import Cohort, TargetOnly
from harmony_lite.evaluate.report import report
from harmony_lite.methods.base import Harmonizer
from harmony_lite.profiles import active
from harmony_lite.storage import cache_folder

SCANNERS = ("oasis_trio", "oasis_vision", "oasis_sonata")  # the target, and two sources for the card's metric
_FIRST = 2  # people of the short retraining that the test repeats


def training_and_validation_people(first: int | None = None) -> tuple[Cohort, Cohort]:
    """The profile's training people (or the first few of them) and its validation people, who share nobody."""
    profile = active()
    everyone = Cohort.simulate(
        profile.train_subjects + profile.validation_subjects, SCANNERS, profile.spacing, profile.seed
    )
    training, validation = everyone.split(profile.train_subjects, profile.validation_subjects)
    return (training.subset(range(first)) if first else training), validation


def first_steps(method: Harmonizer, training: Cohort) -> float:
    """What the recipe begins with on the first two people only; a test repeats it and holds it against the card."""
    return method.first_steps(training.subset(range(_FIRST)).view(method.needs))


def train(
    name: str, variant: str, training: Cohort, view: TargetOnly, validation: Cohort, *, commit: str
) -> weights.Card:
    """Fit one method, measure it on the validation people, and ship it."""
    profile = active()
    began = time.perf_counter()
    first = first_steps(methods.load_method(name, variant, fitted=False), training)
    method = methods.load_method(name, variant, fitted=False)
    if method.is_trained:  # an interrupted training goes on where it stopped
        checkpoint = cache_folder() / "training" / f"{name}.{variant}.{profile.name}.checkpoint"
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        method.fit(view, checkpoint=checkpoint)
        minutes = method.history.seconds / 60
    else:
        method.fit(view)
        minutes = (time.perf_counter() - began) / 60
    table = report(method, validation, measures=["psnr"], rescan=False)
    psnr = table[table.row == "harmonized"].groupby("scanner").value.mean().round(2).to_dict()
    file = f"{name}.{variant}.{profile.name}.safetensors"
    return weights.save(
        method.state(),
        weights.SHIPPED / file,
        command=f"HARMONY_PROFILE={profile.name} python data_scripts/train_weights.py {name}",
        profile=profile.name,
        data_seed=profile.seed,
        minutes=round(minutes, 3),
        metric={"validation psnr dB": psnr, "first steps": first},
        recipe={
            "people": len(training),
            "target": SCANNERS[0],
            "spacing mm": profile.spacing,
            **asdict(method.settings),
        },
        commit=commit,
        half=method.is_trained,  # a standard's intensities want more than three digits, and its files are small
    )


def main() -> None:
    """Train what is named, or everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("methods", nargs="*", help="names of methods; all of them when absent")
    asked = [methods.method_class(name).name for name in parser.parse_args().methods]
    names = asked or [name for name in methods.names() if methods.method_class(name).is_shipped]
    training, validation = training_and_validation_people()
    classes = {name: methods.method_class(name) for name in names}
    jobs = [(name, variant) for name, cls in classes.items() for variant in cls.shipped_variants or cls.variants]
    commit = weights.current_commit()  # before the first file is replaced, which makes the checkout dirty
    views = {needs: training.view(needs) for needs in {methods.method_class(name).needs for name in names}}
    for name, variant in tqdm(jobs, desc="weights", unit="file"):
        card = train(name, variant, training, views[methods.method_class(name).needs], validation, commit=commit)
        tqdm.write(f"{name}.{variant}: {card.metric['validation psnr dB']} ({card.minutes:.2f} min)")


if __name__ == "__main__":
    main()
