"""What HAIL's paper fixes, what it leaves open and how that is read here, and how big a profile makes it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from harmony_lite.profiles import FULL, GPU, QUICK, TINY, sized

__all__ = [
    "CONTENTS", "SCALINGS", "SIZES", "STATISTICS", "VARIANTS", "FeatureSettings", "HailSettings", "InferenceSettings",
    "NetworkSizes", "TransferSettings", "settings_of",
]  # fmt: skip

CONTENTS = ("features of the input", "features after AdaIN")  # what the content loss holds the prediction against
STATISTICS = ("mask", "everything")  # of which voxels AdaIN and the style loss take mean and deviation
SCALINGS = ("percentiles", "range")  # by what a scan is brought to [0, 1]


@dataclass(frozen=True)
class NetworkSizes:
    """Encoder and decoder (Figures 3 and 4).

    Attributes:
        widths: channels of the levels; one convolution in each, as in the figures.
        pools: how many levels are followed by a pooling that halves the volume; three in the figures.
        block_side: voxels a side of the blocks that are moved into the channels before the first convolution, and back
            after the last; 1 for none, as in the paper. Unlike a pooling, this loses nothing: a decoder that repeats
            each voxel eight times cannot say where in the eight a fold was.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512)
    pools: int = 3
    block_side: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.pools < len(self.widths):
            raise ValueError(f"pools: found {self.pools} for {len(self.widths)} levels, wanted fewer, at least 0")

    @property
    def divisor(self) -> int:
        """By which every side of a volume has to be divisible."""
        return self.block_side * 2**self.pools


@dataclass(frozen=True)
class FeatureSettings:
    """Phase 1: encoder and decoder learn to give back what they are given (section 2.1).

    Attributes:
        crop: voxels a side.
        batch: crops.
        learning_rate: of AdamW.
        training_steps: the paper prints 1,000 epochs.
        sites: how many of the sites are seen, in the fit's order, the target first; None for all, as in the paper.
    """

    crop: int = 64
    batch: int = 48
    learning_rate: float = 1e-4
    training_steps: int = 100_000
    sites: int | None = None


@dataclass(frozen=True)
class TransferSettings:
    """Phase 2: the decoder learns to draw the input's anatomy in the target's look (section 2.1).

    Attributes:
        crop: voxels a side, at the same place in input and target.
        batch: pairs of different people; every other one goes the other way.
        learning_rate: of AdamW.
        decay: of the learning rate, whenever the validation loss rests.
        training_steps: the paper prints 1,000 epochs.
        content: weight of the content loss.
        style: weight of the style loss.
        consistency: weight of the consistency loss; 0 for Table 3's training without.
        held_against: of `CONTENTS`. The text says the input's features; AdaIN's own paper takes those after AdaIN. On
            validation people the two came out alike.
        sites: how many of the sites are seen, in the fit's order; two in the paper, A and B.
        keeps_decoder: whether the decoder begins where phase 1 left it; the paper says "with same architecture".
    """

    crop: int = 64
    batch: int = 32
    learning_rate: float = 1e-4
    decay: float = 0.8
    training_steps: int = 100_000
    content: float = 150.0
    style: float = 100.0
    consistency: float = 200.0
    held_against: str = CONTENTS[0]
    sites: int = 2
    keeps_decoder: bool = True

    def __post_init__(self) -> None:
        if self.held_against not in CONTENTS:
            wanted = f"wanted one of {', '.join(map(repr, CONTENTS))}"
            raise ValueError(f"held_against: found {self.held_against!r}, {wanted}")
        if self.sites < 2:
            raise ValueError(f"sites: found {self.sites}, wanted at least two to go from one to the other")


@dataclass(frozen=True)
class HailSettings:
    """All that a training depends on.

    Attributes:
        network: sizes of encoder and decoder.
        features: phase 1.
        transfer: phase 2.
        statistics: of `STATISTICS`. The paper is silent; in whole heads scaled to [0, 1] the air counts most.
        scaling: of `SCALINGS`: by the 1st and 99th percentile inside the mask, or by minimum and maximum, as printed.
        precision: as Lightning Fabric takes it.
        validation_share: of the people, held out to choose the best weights.
    """

    network: NetworkSizes = field(default_factory=NetworkSizes)
    features: FeatureSettings = field(default_factory=FeatureSettings)
    transfer: TransferSettings = field(default_factory=TransferSettings)
    statistics: str = STATISTICS[1]
    scaling: str = SCALINGS[1]
    precision: str = "16-mixed"
    validation_share: float = 0.2

    def __post_init__(self) -> None:
        for name, known in (("statistics", STATISTICS), ("scaling", SCALINGS)):
            if getattr(self, name) not in known:
                wanted = f"wanted one of {', '.join(map(repr, known))}"
                raise ValueError(f"{name}: found {getattr(self, name)!r}, {wanted}")


@dataclass(frozen=True)
class InferenceSettings:
    """How a volume goes through the networks once they are trained.

    Attributes:
        amount: how far the features go towards the reference's style, 0 not at all, 1 the whole way (Huang and
            Belongie, 2017, Equation 14).
        window: voxels a side of the parts that are worked on one by one, each with as much around it as the networks
            look at; None for the whole volume at once. The result is the same.
        in_patches: whether AdaIN takes mean and deviation in each such part by itself, and those of the reference in
            the same part of it, as the training did in its crops; then parts do not fit together. The paper is silent.
    """

    amount: float = 1.0
    window: int | None = 96
    in_patches: bool = False

    def __post_init__(self) -> None:
        if self.in_patches and self.window is None:
            raise ValueError("in_patches: found no window, wanted one: how large the patches are")


_LITE = HailSettings(
    NetworkSizes((8, 16, 32, 64)),
    FeatureSettings(crop=32, batch=4, learning_rate=1e-3, training_steps=1500),
    TransferSettings(crop=32, batch=4, learning_rate=5e-4, training_steps=800),
    precision="32-true",
)
SIZES = {
    QUICK.name: _LITE,
    GPU.name: replace(
        _LITE,
        network=NetworkSizes((32, 64, 128, 256)),
        features=replace(_LITE.features, batch=16, training_steps=6000),
        transfer=replace(_LITE.transfer, batch=16, training_steps=4000),
        precision="bf16-mixed",
    ),
    FULL.name: HailSettings(),
    TINY.name: replace(
        _LITE,
        network=NetworkSizes((4, 4), pools=1),
        features=replace(_LITE.features, crop=8, batch=2, training_steps=20),
        transfer=replace(_LITE.transfer, crop=8, batch=2, training_steps=20),
    ),
}

VARIANTS = ("ours", "paper", "no-consistency", "c-unseen")


def settings_of(variant: str) -> HailSettings:
    """A variant's settings, as large and as long as the active profile says.

    `ours`: no pooling but blocks moved into the channels, statistics inside the mask, scaling by percentiles. `paper`:
    as printed. `no-consistency`: `ours` without the consistency loss, for Table 3. `c-unseen`: `ours` whose phase 1
    does not see the third site either; the paper's encoder has seen its "unseen" site C.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant: found {variant!r}, wanted one of {', '.join(VARIANTS)}")
    size = sized(SIZES)
    if variant == "paper":
        return size
    widths = tuple(width * 4 for width in size.network.widths[:2])
    size = replace(
        size,
        network=NetworkSizes(widths, pools=0, block_side=2),
        statistics=STATISTICS[0],
        scaling=SCALINGS[0],
    )
    if variant == "no-consistency":
        return replace(size, transfer=replace(size.transfer, consistency=0.0))
    if variant == "c-unseen":
        return replace(size, features=replace(size.features, sites=size.transfer.sites))
    return size
