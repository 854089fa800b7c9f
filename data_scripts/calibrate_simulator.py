"""Measure the simulator: rescans, presets, ageing, lesions, likeness; write the figures that notebook 01 reads.

    python data_scripts/calibrate_simulator.py harmony_lite/simulate/calibration.quick.json

The people are those of seed 2026, on the 2 mm grid. Nothing is tuned on them by this script; it only measures. The
published PSNR values stand beside the presets that the papers measured.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from harmony_lite.cohort import Cohort
from harmony_lite.evaluate import metrics
from harmony_lite.images.normalize import subject_percentile
from harmony_lite.simulate import LABELS, PRESETS, draw_lesions
from harmony_lite.storage import written_whole

SEED, PEOPLE = 2026, 12
AGES = (25.0, 40.0, 55.0, 70.0, 85.0)
TARGET = "oasis_trio"
# BlindHarmony Table 2 (slice-wise min-max, mask of signal); BlindHarmonyDiff Tables 1 and S2 (subject percentiles, BET)
PUBLISHED_DB = {
    "oasis_trio_b": "24.1",
    "oasis_vida": "19.6; 18.2; 16.0",
    "oasis_vision": "19.4; 14.5; 12.2",
    "oasis_biograph": "23.0; 20.0; 18.2",
    "oasis_sonata": "18.6; 17.3",
}


def preset_psnr(scanners: tuple[str, ...] | None = None, *, people: int = PEOPLE) -> dict[str, list[float]]:
    """PSNR in dB against the target scan, per person; both images by their own 1st-99th percentiles in the brain."""
    scanners = scanners or tuple(name for name in PRESETS if name != "t2_spin_echo")
    cohort = Cohort.simulate(people, [TARGET, *(s for s in scanners if s != TARGET)], seed=SEED)
    mask = cohort.mask
    target = subject_percentile(cohort.scans(TARGET), mask)
    figures = {}
    for scanner in tqdm(scanners, desc="presets", disable=None):
        other = cohort.scans(scanner, repeat=int(scanner == TARGET))
        psnr = metrics.psnr(subject_percentile(other, mask), target, mask, data_range=1.0)
        figures[scanner] = [round(float(value), 2) for value in psnr]
    return figures


def ageing(*, people: int = PEOPLE) -> dict[float, dict[str, float]]:
    """Mean volumes in ml of the same people at five ages."""
    means = {}
    for age in tqdm(AGES, desc="ages", disable=None):
        cohort = Cohort.simulate(people, [TARGET], seed=SEED, ages=[age] * people)
        means[age] = {name: round(float(value), 2) for name, value in cohort.volumes_ml.mean().items()}
    return means


def ageing_rates(means: dict[float, dict[str, float]]) -> dict[str, float]:
    """Grey matter in % of its value at 25 per year, ventricles in ml per year from 25 to 55, the cavity's range."""
    grey = np.polyfit(AGES, [means[a]["GM"] for a in AGES], 1)[0] / means[25.0]["GM"] * 100
    ventricles = (means[55.0]["ventricles"] - means[25.0]["ventricles"]) / 30
    cavities = [means[a]["cavity"] for a in AGES]
    spread = (max(cavities) - min(cavities)) / min(cavities) * 100
    return {"GM %/yr": float(grey), "ventricles ml/yr": float(ventricles), "cavity spread %": float(spread)}


def lesion_load(draws: int = 2000) -> dict[str, float]:
    """Mean count and volume of lesions over people of 60 to 64."""
    count = volume = 0.0
    for i in range(draws):
        radii = draw_lesions(60 + 4 * i / draws, torch.Generator().manual_seed(i))
        count += len(radii) / draws
        volume += float((4 / 3 * np.pi * radii**3).sum()) / 1000 / draws
    return {"count": count, "ml": volume}


def likeness(*, people: int = PEOPLE) -> dict[str, float]:
    """Grey-matter Dice of people with their own mirror image; label Dice between people; smallest Jacobian."""
    cohort = Cohort.simulate(people, [TARGET], seed=SEED)
    old = Cohort.simulate(people, [TARGET], seed=SEED, ages=[AGES[-1]] * people)
    grey, labels = cohort.tissues.argmax(1, keepdim=True), cohort.labels
    grey = ((grey == 1) & cohort.mask).to(torch.uint8)
    mirror = metrics.dice(grey, grey.flip(2), labels=[1])
    present = list(range(1, len(LABELS)))
    pairs = [
        float(metrics.dice(labels[i : i + 1], labels[j : j + 1], labels=present).mean())
        for i, j in itertools.combinations(range(min(people, 6)), 2)
    ]
    return {
        "mirror Dice": float(mirror.max()),
        "lowest label Dice": min(pairs),
        "highest label Dice": max(pairs),
        "smallest Jacobian": float(cohort.smallest_jacobians.min()),
        "smallest Jacobian at 85": float(old.smallest_jacobians.min()),
    }


def main() -> None:
    """Measure everything and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    output = parser.parse_args().output
    torch.set_num_threads(1)
    means = ageing()
    figures = {
        "people": PEOPLE,
        "seed": SEED,
        "spacing mm": 2.0,
        "psnr dB": preset_psnr(),
        "published dB": PUBLISHED_DB,
        "ageing ml": means,
        "ageing rates": ageing_rates(means),
        "lesions at 60-64": lesion_load(),
        "likeness": likeness(),
    }
    with written_whole(output) as part:
        part.write_text(json.dumps(figures, indent=1) + "\n")
    for name, values in figures["psnr dB"].items():
        print(f"{name:16} {np.mean(values):5.1f} dB ({min(values):.1f} to {max(values):.1f})")
    for key in ("ageing rates", "lesions at 60-64", "likeness"):
        print(key, {name: round(value, 3) for name, value in figures[key].items()})


if __name__ == "__main__":
    main()
