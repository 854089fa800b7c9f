"""People and scanners, by physics: `scan(simulate_person(...), "oasis_trio", generator)`."""

from harmony_lite.simulate.anatomy import Person, expected_volumes, simulate_person
from harmony_lite.simulate.lesions import draw_lesions
from harmony_lite.simulate.physics import (
    TISSUES,
    mprage_signal,
    spin_echo_signal,
    spoiled_gradient_echo_signal,
    tissue_constants,
)
from harmony_lite.simulate.presets import PRESETS, Protocol, Scanner, full_name, preset
from harmony_lite.simulate.scanners import contrast, protocol_image, scan
from harmony_lite.simulate.template import LABELS

__all__ = [
    "LABELS",
    "PRESETS",
    "TISSUES",
    "Person",
    "Protocol",
    "Scanner",
    "contrast",
    "draw_lesions",
    "expected_volumes",
    "full_name",
    "mprage_signal",
    "preset",
    "protocol_image",
    "scan",
    "simulate_person",
    "spin_echo_signal",
    "spoiled_gradient_echo_signal",
    "tissue_constants",
]
