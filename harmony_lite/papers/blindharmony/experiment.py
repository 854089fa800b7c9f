"""BlindHarmony's tables (Jeong et al., ICCV 2023): slices of a person, target TIM Trio.

Tables 1 and 4, and the supplement's Table 3: the target scan itself, every slice under one of four intensity maps.
Table 2: four source scanners. Table 3: white matter segmented after each method by a U-Net that has seen the target
only, in the measured slices; the truth is the simulation's, where the paper's labels are FSL FAST's. PSNR and SSIM are
taken in axial slices within the brain and averaged over a person's slices; every slice is scaled by its own minimum and
maximum, as in the paper, and methods that give slices in [0, 1] are taken at their word. Histogram matching works slice
by slice on the maps and on volumes for the scanners, as the paper says (sections 4.3 and 4.4), and SSIMH, of which it
says the latter only, likewise; the other form stands beside. BlindHarmony is the variant `ours`: its step c is 1/3
where the paper prints beta1 = 1000, and 1/6 where it prints 500, since on slices of this size the printed weights are
other steps, and its x0 has the contrast of one person's slice. On the maps `paper` and `released` stand beside;
everywhere the same ascent without the flow, and both from an x0 that has the contrast of the average. U-net and
CycleGAN are trained on the same training people as the flow, on pairs and on different people.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from torch import Tensor

from harmony_lite.cohort import Cohort
from harmony_lite.evaluate.fits import Fitted
from harmony_lite.evaluate.measuring import (
    TIER_MAPS,
    Compared,
    Entry,
    Measurement,
    averages,
    beside,
    fits_of,
    measured_in_slices,
    rescanned,
    white_matter_overlap,
)
from harmony_lite.images import intensity_maps
from harmony_lite.papers.published import load

__all__ = ["ABLATION", "CURVES", "FITS", "ON_MAPS", "ON_SCANNERS", "PEOPLE_ON", "measure", "on_maps", "on_scanners"]

TARGET = "oasis_trio"
SOURCES = {condition: presets[0] for condition, presets in load("blindharmony").conditions.items()}
PEOPLE_ON = (TARGET, *SOURCES.values())
CURVES = {
    "Exp": intensity_maps.MAPS["exp"],
    "Log": intensity_maps.MAPS["log"],
    "Gamma 0.7": intensity_maps.MAPS["gamma0.7"],
    "Gamma 1.5": intensity_maps.MAPS["gamma1.5"],
}
SIMULATED = ("Exp", "Log", "Gamma 0.7")  # Table 1; the fourth map is Table 4's
OURS = ("blindharmony", "ours")
PRINTED_STEP = 1 / 3  # c, where the paper prints beta1 = 1000

ITSELF = Entry("BlindHarmony", *OURS)
ITS_VARIANTS = beside("blindharmony:paper", "blindharmony:released")
CHANGED = (
    Entry("ascent without the flow", *OURS, changes=(("use_flow", False),)),
    Entry("from the average as it is", *OURS, changes=(("start", "at the same height"),)),
    Entry("the same without the flow", *OURS, changes=(("start", "at the same height"), ("use_flow", False))),
)
CLASSICAL = beside("affine-match", "nyul", "white-stripe", "field-swap", "ncc-ascent")
ON_MAPS = (
    ITSELF,
    Entry("HM", "histogram-matching", "slice"),
    Entry("SSIMH", "ssimh", "slice"),
    *(
        Entry(f"{network} {domain}", method, "maps", name)
        for network, method in (("CycleGAN", "cyclegan"), ("U-net", "unet"))
        for domain, name in (("Exp", "exp"), ("Log", "log"), ("Gamma0.7", "gamma0.7"))
    ),
    *ITS_VARIANTS,
    *CHANGED,
    *beside("histogram-matching:volume", "ssimh:volume"),
    *CLASSICAL,
)
ON_SCANNERS = (
    ITSELF,
    Entry("HM", "histogram-matching", "volume"),
    Entry("SSIMH", "ssimh", "volume"),
    Entry("CycleGAN each", "cyclegan", "scanners"),
    Entry("U-net each", "unet", "scanners"),
    *CHANGED,
    *beside("histogram-matching:slice", "ssimh:slice"),
    *CLASSICAL,
    *beside("n4", "combat:target", "ravel"),
)
HALVED = Entry("BlindHarmony beta1 = 500", *OURS, changes=(("step", PRINTED_STEP / 2),))
ABLATION = (
    Entry("alpha = 0", *OURS, changes=(("alpha", 0.0),)),
    Entry("beta1 = 0", *OURS, changes=(("step", 0.0),)),
    Entry("beta2 = 0", *OURS, changes=(("beta2", 0.0),)),
)
FITS = (*fits_of(ON_SCANNERS, PEOPLE_ON), *fits_of(ON_MAPS, PEOPLE_ON))


def measure(person: Cohort, fitted: Fitted, rows: Collection[str] = ()) -> Iterator[Measurement]:
    """All tables and the averages in the text, for one person on the scanners `PEOPLE_ON`.

    With `rows` these alone, and those without a method: the source and the rescan.
    """

    def asked(entries: Sequence[Entry]) -> list[Entry]:
        return [entry for entry in entries if not rows or entry.row in rows]

    maps = list(on_maps(person, fitted, asked(ON_MAPS), ablation=asked(ABLATION)))
    scanners = list(on_scanners(person, fitted, asked(ON_SCANNERS)))
    yield from (*maps, *scanners)
    of_table = {place: [one for one in (*maps, *scanners) if one.place == place] for place in ("Table 1", "Table 2")}
    for place, table, conditions in (("section 4.3", "Table 1", SIMULATED), ("section 4.4", "Table 2", tuple(SOURCES))):
        psnr = [one for one in of_table[table] if one.measure == "psnr"]
        yield from averages(psnr, conditions, "average", place=place)


def on_maps(
    person: Cohort,
    fitted: Fitted,
    entries: Sequence[Entry] = ON_MAPS,
    *,
    ablation: Sequence[Entry] = ABLATION,
    conditions: Sequence[str] = tuple(CURVES),
) -> Iterator[Measurement]:
    """Tables 1 and 4 and the supplement's Table 3 for some rows: the target scan under maps, brought back."""
    bent, mask, slices = person.with_target(TARGET).with_maps(CURVES), person.mask, fitted.profile.slices
    target = bent.scans(TARGET)
    for condition in conditions:
        source = bent.scans(condition)

        def row(entry: Entry, source: Tensor = source, condition: str = condition) -> Compared:
            return entry.harmonized(source, condition, mask, fitted, PEOPLE_ON, slices=slices)

        is_printed = condition in SIMULATED
        images = [Compared("Source", source), *map(row, entries)]
        place, measures = ("Table 1", ("psnr", "ssim")) if is_printed else ("Table 4", ("psnr",))
        if not is_printed:
            images = [_renamed(one, {ITSELF.row: "BlindHarmony beta1 = 1000"}) for one in images]
            images += [row(HALVED)] if ITSELF in entries else []
        ablated = [*(_renamed(one, {ITSELF.row: "Baseline"}) for one in images if one.row == ITSELF.row)]
        ablated += map(row, ablation if is_printed and ablated else ())
        for where, rows in ((place, images), ("supplement Table 3", ablated)):
            for one in rows:
                values = measured_in_slices(one, target, mask, measures, slices)
                yield from one.cells(where, condition, values, tier=TIER_MAPS)


def _renamed(one: Compared, names: dict[str, str]) -> Compared:
    return replace(one, row=names.get(one.row, one.row))


def on_scanners(
    person: Cohort,
    fitted: Fitted,
    entries: Sequence[Entry] = ON_SCANNERS,
    *,
    conditions: Sequence[str] = tuple(SOURCES),
) -> Iterator[Measurement]:
    """Tables 2 and 3 for some rows: four source scanners, and the rescan."""
    mask, slices, target = person.mask, fitted.profile.slices, person.scans(TARGET)
    for condition in conditions:
        scanner = SOURCES[condition]
        source, own_mask = person.scans(scanner), person.masks(scanner)
        images = [Compared("Source", source)]
        images += (entry.harmonized(source, scanner, own_mask, fitted, PEOPLE_ON, slices=slices) for entry in entries)
        for one in (*images, rescanned(person, fitted, PEOPLE_ON)):
            values = measured_in_slices(one, target, mask, ("psnr", "ssim"), slices)
            yield from one.cells("Table 2", condition, values)
            overlap, network = white_matter_overlap(person, one.image, slices)
            yield from one.cells("Table 3", condition, {"iou": overlap}, by=network)
