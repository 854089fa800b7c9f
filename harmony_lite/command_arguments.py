"""What each command of the command line takes, and how a number or a name is read."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["evaluate", "harmonize", "simulate", "train"]


def simulate(command: argparse.ArgumentParser) -> None:
    """Of `harmony-lite simulate`."""
    command.add_argument("out", metavar="OUT", type=Path, help="folder to make; new or empty")
    command.add_argument("--subjects", type=_count, default=2, metavar="N", help="people (default: 2)")
    command.add_argument(
        "--scanners",
        type=_names,
        default=["oasis_trio", "oasis_vision"],
        metavar="A,B",
        help="scanner presets, the target first (default: oasis_trio,oasis_vision)",
    )
    command.add_argument("--spacing", type=_millimetres, metavar="MM", help="voxel size (default: the profile's, 2)")
    command.add_argument("--seed", type=int, default=0, metavar="S", help="same seed, same people (default: 0)")
    command.add_argument("--jobs", type=_count, default=1, metavar="N", help="processes, side by side (default: 1)")


def train(command: argparse.ArgumentParser) -> None:
    """Of `harmony-lite train`."""
    command.add_argument("method", metavar="METHOD", help="as `harmony-lite methods` lists them")
    command.add_argument("--cohort", required=True, type=Path, metavar="FOLDER", help="people and scanners")
    command.add_argument("--variant", metavar="V", help="reading of the method (default: its first)")
    command.add_argument("--target", metavar="NAME", help="the target scanner, where there is one (default: the first)")
    command.add_argument("--held-out", type=_count_or_none, metavar="N", help="people held out (default: one in five)")
    command.add_argument("--out", type=Path, metavar="FILE", help="weights to write (default: kept as your own)")


def harmonize(command: argparse.ArgumentParser) -> None:
    """Of `harmony-lite harmonize`."""
    command.add_argument("input", metavar="INPUT", type=Path, help="scan, or folder of scans")
    command.add_argument("output", metavar="OUTPUT", type=Path, help="file to write, or folder")
    command.add_argument("--method", required=True, metavar="NAME", help="as `harmony-lite methods` lists them")
    command.add_argument("--variant", metavar="V", help="reading of the method (default: its first)")
    command.add_argument("--reference", type=Path, metavar="FILE", help="scan of the target's look")
    command.add_argument(
        "--reference-mask", type=Path, metavar="FILE", help="brain of the reference; outside it is set to 0"
    )
    command.add_argument(
        "--mask", type=Path, metavar="FILE", help="brain of the input, on its grid (default: found from the scan)"
    )
    command.add_argument("--scanner", metavar="NAME", help="the input's scanner, for methods trained on named scanners")
    command.add_argument("--weights", type=Path, metavar="FILE", help="weights that `train --out` wrote")
    command.add_argument(
        "--adapt-on", type=Path, metavar="FOLDER", help="scans of the input's site, for methods that adapt to a site"
    )
    command.add_argument("--jobs", type=_count, default=1, metavar="N", help="processes for a folder (default: 1)")
    command.add_argument(
        "--scheduler", metavar="ADDRESS", help="Dask scheduler whose workers do a folder, as tcp://host:8786"
    )
    command.add_argument("--suffix", metavar="NAME", help="kind of image in a BIDS folder, as T2w (default: T1w)")
    command.add_argument("--force", action="store_true", help="make again what is there, and was made in the same way")
    command.add_argument("--report", type=Path, metavar="FILE", help="quality page to write, as report.html")


def evaluate(command: argparse.ArgumentParser) -> None:
    """Of `harmony-lite evaluate`."""
    command.add_argument("harmonized", metavar="HARMONIZED", type=Path, help="scan to judge")
    command.add_argument("reference", metavar="REFERENCE", type=Path, help="scan that it should be like")
    command.add_argument(
        "--mask", type=Path, metavar="FILE", help="brain, on the same grid (default: found from the reference)"
    )
    command.add_argument("--json", action="store_true", help="as JSON")


def _count(text: str) -> int:
    value = int(text) if text.lstrip("-").isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, wanted a whole number from 1")
    return value


def _count_or_none(text: str) -> int:
    return 0 if text == "0" else _count(text)


def _millimetres(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < 100:
        raise argparse.ArgumentTypeError(f"found {text!r}, wanted a number of mm above 0")
    return value


def _names(text: str) -> list[str]:
    found = [name.strip() for name in text.split(",")]
    if not all(found):
        raise argparse.ArgumentTypeError(f"found {text!r}, wanted names with commas between them")
    return found
