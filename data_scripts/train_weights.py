"""Make the shipped weights again: every recipe on the active profile's training people.

    python data_scripts/train_weights.py [NAME ...] [--jobs N]

What a recipe is stands in `harmony_lite/papers/recipes.py`, and each paper's in its folder. The cohort is simulated
from the profile's seed and split by person: training people, and validation people, whose metric goes on the card; test
people are never touched. Each file lies in `harmony_lite/shipped` with a card. An interrupted training goes on where it
stopped.
"""

from __future__ import annotations

import argparse
import os
import time

from tqdm import tqdm

from harmony_lite import weights
from harmony_lite.cohort import make_scans
from harmony_lite.papers.recipes import Recipe, recipes
from harmony_lite.profiles import active
from harmony_lite.storage import cache_folder


def train(recipe: Recipe, *, commit: str, jobs: int) -> weights.Card:
    """Train what a recipe says, measure it on the validation people, and ship it."""
    profile = active()
    training, validation = recipe.people()
    for group in (training, validation):
        make_scans(group, jobs)
    fingerprint = recipe.fingerprint(training)
    checkpoint = cache_folder() / "training" / f"{recipe.label}.{profile.name}.checkpoint"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    trained = recipe.train(recipe.untrained(), training, checkpoint)
    seconds = trained.history.seconds if trained.is_trained else time.perf_counter() - began
    return weights.save(
        trained.state(),
        recipe.path,
        command=f"HARMONY_PROFILE={profile.name} python data_scripts/train_weights.py {recipe.label}",
        profile=profile.name,
        data_seed=profile.seed,
        minutes=round(seconds / 60, 3),
        metric=recipe.metric(trained, validation),
        fingerprint=fingerprint,
        **recipe.facts(trained, training),
        commit=commit,
        half=trained.is_trained,  # a standard's intensities want more than three digits, and its files are small
    )


def main() -> None:
    """Train what is named, or everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = recipes()
    names = list(dict.fromkeys(recipe.name for recipe in known))
    about = f"of {', '.join(names)}, or one recipe of it, such as {known[0].label}; all of them when absent"
    parser.add_argument("names", nargs="*", help=about)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes that simulate (default: all)")
    given = parser.parse_args()
    asked = {name.replace("_", "-") for name in given.names or names}
    words = {recipe.label: {recipe.name, recipe.label.replace("_", "-")} for recipe in known}
    if asked - set().union(*words.values()):
        parser.error(f"names: found {', '.join(given.names)}, wanted some of {', '.join([*names, *words])}")
    commit = weights.current_commit()  # before the first file is replaced, which makes the checkout dirty
    for recipe in tqdm([one for one in known if words[one.label] & asked], desc="weights", unit="file"):
        card = train(recipe, commit=commit, jobs=given.jobs)
        tqdm.write(f"{recipe.label}: {card.metric} ({card.minutes:.2f} min)")


if __name__ == "__main__":
    main()
