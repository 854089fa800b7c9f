"""Draw README's picture: one simulated person on nine scanners.

python data_scripts/draw_readme_picture.py notebooks/pictures/nine_scanners.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from harmony_lite.cohort import Cohort
from harmony_lite.images.normalize import subject_percentile
from harmony_lite.show import png, strip
from harmony_lite.storage import written_whole

SCANNERS = {
    "oasis_trio": "OASIS Trio (3 T)",
    "oasis_vida": "OASIS Vida (3 T)",
    "oasis_biograph": "OASIS BioGraph (3 T)",
    "oasis_sonata": "OASIS Sonata (1.5 T)",
    "oasis_vision": "OASIS Vision (1.5 T)",
    "mispel_ge": "MISPEL GE (3 T)",
    "mispel_philips": "MISPEL Philips (3 T)",
    "hail_a": "HAIL site A (1.5 T)",
    "hail_c": "HAIL site C (3 T)",
}


def main() -> None:
    """Draw and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    output = parser.parse_args().output
    cohort = Cohort.simulate(1, list(SCANNERS), spacing=1.2, seed=3, ages=[62])
    mask, k = cohort.mask, int(0.56 * cohort.mask.shape[-1])
    slices = {}
    for name, title in SCANNERS.items():
        scaled = subject_percentile(cohort.scans(name), mask) * mask
        slices[title] = scaled[0, 0, ..., k].numpy()
    with written_whole(output) as part:
        part.write_bytes(png(strip(slices, columns=5, window=(0, 1.1), size=2.3)))


if __name__ == "__main__":
    main()
