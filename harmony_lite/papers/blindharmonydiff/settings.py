"""What BlindHarmonyDiff's paper fixes, where the variants depart from it, and how big a profile makes it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from harmony_lite.papers.blindharmonydiff.network import NetworkSizes
from harmony_lite.papers.blindharmonydiff.patches import FLIPS, PatchSettings
from harmony_lite.papers.blindharmonydiff.refinement import RefinementSettings
from harmony_lite.papers.blindharmonydiff.sampler import SamplerSettings
from harmony_lite.profiles import FULL, GPU, QUICK, TINY, sized

__all__ = [
    "SIZES",
    "STARTS",
    "VARIANTS",
    "BlindHarmonyDiffSettings",
    "InferenceSettings",
    "inference_of",
    "settings_of",
]

# what the refinement starts at: the image of the source's edges, of edges at random places, or of nobody's edges (S4.3)
STARTS = ("edges", "random edges", "averaged image", "noise alone")


@dataclass(frozen=True)
class TrainingSettings:
    """How the network is trained (section 4.2 and supplement S3.1).

    Attributes:
        patches: size, strides and mirrors.
        learning_rate: of Adam.
        anneals: whether it falls along a cosine; it is fixed in the paper.
        warm_up: steps in which it rises; none in the paper.
        training_steps: of `batch` patches.
        batch: patches.
        decay: of the moving average of the weights that is kept; 0 for the last weights. The paper is silent; the
            public code keeps an average and then loads the last weights.
        gradient_clip: largest norm of the gradient; None for no limit.
        time_power: of the times that are drawn (`velocity_loss`); the paper is silent, the public code draws evenly.
            With 1/2 there are twice as many next to the noise, where the edges decide on the image, and few next to the
            image, where most of the loss is and little but noise is left to take away.
        precision: as Lightning Fabric takes it; half precision in the public code, the paper is silent.
    """

    patches: PatchSettings = field(default_factory=PatchSettings)
    learning_rate: float = 5e-5
    anneals: bool = False
    warm_up: int = 0
    training_steps: int = 150_000
    batch: int = 8
    decay: float = 0.0
    gradient_clip: float | None = None
    time_power: float = 1.0
    precision: str = "32-true"


@dataclass(frozen=True)
class BlindHarmonyDiffSettings:
    """What the weights depend on.

    Attributes:
        network: its sizes.
        training: of the network.
        edge_fraction: edge voxels of all voxels (section 3.2).
        edge_sigma: of the Gaussian before the gradient, voxels; not printed.
        validation_share: of the people, held out to choose the best weights; 29 of 746 in the paper.
    """

    network: NetworkSizes = field(default_factory=NetworkSizes)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    edge_fraction: float = 0.08
    edge_sigma: float = 1.0
    validation_share: float = 0.04


@dataclass(frozen=True)
class InferenceSettings:
    """What happens to a scan once there is a network (sections 3.4 and 3.5, supplement S3.1).

    Attributes:
        sampler: from noise to the image.
        refinement: from that image towards the source.
        start: of `STARTS`: what the sampler is given, and so where the refinement begins.
        inside: whether the correlation is that of the voxels in the mask; of the whole volume in the public code, where
            the background, which is dark in both, makes most of it.
        slice_by_slice: whether each axial slice follows the source by itself, so that a shading along z can be followed
            too.
    """

    sampler: SamplerSettings = field(default_factory=SamplerSettings)
    refinement: RefinementSettings = field(default_factory=RefinementSettings)
    start: str = STARTS[0]
    inside: bool = False
    slice_by_slice: bool = False

    def __post_init__(self) -> None:
        if self.start not in STARTS:
            raise ValueError(f"start: found {self.start!r}, wanted one of {', '.join(map(repr, STARTS))}")


IMAGE_ERROR = 0.08  # of the image that the network names, in [-1, 1]: 28 dB, so little of the noise is left at the end
_LITE = TrainingSettings(
    PatchSettings((16, 16, 16), flips=FLIPS[0]),  # with a stride of 5 they span the volume
    learning_rate=2e-3,
    anneals=True,
    warm_up=100,
    training_steps=8_000,
    batch=28,
    decay=0.999,
    gradient_clip=1.0,
)
SIZES = {
    QUICK.name: BlindHarmonyDiffSettings(
        NetworkSizes(width=24, multiples=(1, 2, 2), blocks=1, first_side=3, block_side=2, input_at_end=True),
        _LITE,
        validation_share=0.125,
    ),
    GPU.name: BlindHarmonyDiffSettings(
        NetworkSizes(width=30, multiples=(1, 2, 4), blocks=1, first_side=3),
        replace(
            _LITE,
            patches=PatchSettings((32, 32, 32), flips=FLIPS[0]),
            training_steps=20_000,
            batch=16,
            precision="bf16-mixed",
        ),
        validation_share=0.0625,
    ),
    FULL.name: BlindHarmonyDiffSettings(),
    TINY.name: BlindHarmonyDiffSettings(
        NetworkSizes(width=4, multiples=(1, 2), blocks=1, first_side=3, block_side=2),
        replace(_LITE, patches=PatchSettings((8, 8, 8), flips=FLIPS[0]), training_steps=20, batch=2, warm_up=0),
        validation_share=0.125,
    ),
}

VARIANTS = ("ours", "paper", "released", "slices")


def settings_of(variant: str) -> BlindHarmonyDiffSettings:
    """What a variant's weights depend on, as large and as long as the active profile says.

    `ours`: the network names the image as a departure from the target's averaged image (`NetworkSizes`), times near the
    noise are drawn more often, volumes are mirrored left to right only, and the average of the weights is kept.
    `paper`: as printed. `released`: attention, one mirror always, fewer strides than the share says, the last weights.
    `slices`: `ours` for axial slices, the twin of Tables 3 and S2.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant: found {variant!r}, wanted one of {', '.join(VARIANTS)}")
    size = sized(SIZES)
    training, patches = size.training, size.training.patches
    if variant == "paper":
        patches = replace(patches, flips=FLIPS[1])
        return replace(size, training=replace(training, patches=patches, decay=0.0))
    if variant == "released":
        patches = replace(patches, flips=FLIPS[2], counts_stride_1=True, whole_sides=False)
        network = replace(size.network, attention=True)
        return replace(size, network=network, training=replace(training, patches=patches, decay=0.0))
    training = replace(training, patches=replace(patches, flips=FLIPS[0]), decay=0.999, time_power=0.5)
    size = replace(size, network=replace(size.network, image_error=IMAGE_ERROR, from_averaged=True))
    if variant == "ours":
        return replace(size, training=training)
    x, y, _ = patches.size
    training = replace(training, patches=replace(training.patches, size=(x, y, 1)), batch=training.batch * x // 4)
    return replace(size, network=replace(size.network, dimensions=2), training=training)


def inference_of(variant: str) -> InferenceSettings:
    """What a variant does with a scan.

    `paper` and `released` step by 0.02 and 0.005 on scans scaled to [0, 1], all voxels counted; `ours` and `slices`
    step by a share of the image's own variance in the mask, so that neither size nor range nor background matters.
    `slices` is refined slice by slice, as the paper's twin is.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant: found {variant!r}, wanted one of {', '.join(VARIANTS)}")
    if variant in ("paper", "released"):
        step = 0.02 if variant == "paper" else 0.005
        return InferenceSettings(refinement=RefinementSettings(step=step, unit="voxels"))
    return InferenceSettings(inside=True, slice_by_slice=variant == "slices")
