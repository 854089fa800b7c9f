"""What Harmonizing Flows' paper fixes, where the variants depart from it, and how big a profile makes it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from harmony_lite.papers.harmonizing_flows.adaptation import AdaptationSettings
from harmony_lite.papers.harmonizing_flows.augmentation import DISTANCES
from harmony_lite.papers.harmonizing_flows.flow import FORMS, FlowSizes
from harmony_lite.profiles import FULL, GPU, QUICK, TINY, sized

__all__ = ["SITES", "SIZES", "VARIANTS", "FlowSettings", "HarmonizingFlowsSettings", "NetworkSettings", "settings_of"]


@dataclass(frozen=True)
class FlowSettings:
    """The guided flow and its training (sections 3.1 and 4.1).

    Attributes:
        sizes: of its networks.
        negatives: share of a batch that is changed and pushed away; not printed, 0.2 in the public code.
        margin: c of Equation 4 in bits per dimension.
        above_target: the margin is instead this much above the batch's own bits per dimension; None for `margin`. A
            fixed margin of 1.2 does nothing before the flow is as good as that, and a small flow never is.
        distance: of `augmentation.DISTANCES`.
        threshold: on it, above which a changed slice counts as another look; not printed. Squared grey levels or grey
            levels, as the distance is.
        learning_rate: of Adam.
        halvings: how often the learning rate is halved over the training; printed every 200 of 1600 epochs.
        training_steps: of `batch` slices; printed are 1600 epochs of some 1,500 slices.
        batch: slices.
        gradient_clip: largest norm of the gradient; the public code's, the paper is silent.
    """

    sizes: FlowSizes = field(default_factory=FlowSizes)
    negatives: float = 0.2
    margin: float = 1.2
    above_target: float | None = None
    distance: str = DISTANCES[0]
    threshold: float = 400.0
    learning_rate: float = 1e-3
    halvings: int = 8
    training_steps: int = 75_000
    batch: int = 32
    gradient_clip: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.negatives < 1:
            raise ValueError(f"negatives: found {self.negatives}, wanted a share from 0 to below 1")
        if self.distance not in DISTANCES:
            raise ValueError(f"distance: found {self.distance!r}, wanted one of {', '.join(map(repr, DISTANCES))}")


@dataclass(frozen=True)
class NetworkSettings:
    """The harmonizer's network and its pre-training (sections 3.2 and 4.1).

    Attributes:
        widths: channels of each level.
        identity: begin with h(x) = x, and let the network see levels from 0 to 1; the paper does neither.
        learning_rate: of Adam.
        beta2: of Adam; 0.99 in the public code.
        halvings: of the learning rate over the training; printed every 30 of 200 epochs, once in the public code.
        training_steps: of `batch` slices; printed are 200 epochs of some 1,500 slices.
        batch: slices.
        gradient_clip: largest norm of the gradient, of an error in squared grey levels; None for no limit, as printed.
    """

    widths: tuple[int, ...] = (16, 32, 48, 64, 64)
    identity: bool = False
    learning_rate: float = 1e-3
    beta2: float = 0.999
    halvings: int = 6
    training_steps: int = 9_400
    batch: int = 32
    gradient_clip: float | None = None


@dataclass(frozen=True)
class HarmonizingFlowsSettings:
    """All three parts.

    Attributes:
        flow: what is likely on the target.
        network: what is moved.
        adaptation: how.
        validation_share: of the people, held out to choose the best weights and for the rule of bits (section 4.1).
    """

    flow: FlowSettings = field(default_factory=FlowSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    adaptation: AdaptationSettings = field(default_factory=lambda: AdaptationSettings("entropy minimum"))
    validation_share: float = 0.2


SIZES = {
    QUICK.name: HarmonizingFlowsSettings(
        FlowSettings(FlowSizes(widths=(8, 16, 24), dequantization="uniform"), halvings=3, training_steps=700, batch=8),
        NetworkSettings(halvings=3, training_steps=1200, batch=12),
    ),
    GPU.name: HarmonizingFlowsSettings(FlowSettings(training_steps=2000), NetworkSettings(training_steps=3000)),
    FULL.name: HarmonizingFlowsSettings(),
    TINY.name: HarmonizingFlowsSettings(
        FlowSettings(FlowSizes(widths=(4, 6), couplings=2), training_steps=20, batch=4),
        NetworkSettings((4, 4, 6, 6, 6), training_steps=20, batch=4),
        AdaptationSettings("entropy minimum", most_steps=3),
    ),
}

VARIANTS = ("ours", "paper", "released", "unguided")

SITES = ("abide_caltech", "abide_kki", "abide_pitt", "abide_nyu")  # each in turn is the target (section 4.1)


def settings_of(variant: str) -> HarmonizingFlowsSettings:
    """Those of a variant, as large and as long as the active profile says.

    `ours`: half of a batch is changed, the margin follows the target's bits, couplings begin with the identity and the
    harmonizer with h(x) = x, whose gradient is limited, and the adaptation ends at the target's bits. `released`:
    margin, distance, rates and the order of shift and scale of the public code, which takes 20 passes and stops by no
    rule. `unguided`: `ours` without the guiding term, to see what that is for; its harmonizer, which is of no use then,
    gets a tenth of the training.
    """
    size = sized(SIZES)
    if variant == "paper":
        return size
    if variant == "released":
        sizes = replace(size.flow.sizes, form=FORMS[1])
        flow = replace(size.flow, sizes=sizes, margin=1.0, distance=DISTANCES[1], threshold=20.0)
        network = replace(size.network, beta2=0.99, halvings=1)
        return replace(size, flow=flow, network=network, adaptation=AdaptationSettings("never", 4e-6))
    if variant in ("ours", "unguided"):
        sizes, negatives = replace(size.flow.sizes, first_scale=0.0), 0.5 if variant == "ours" else 0.0
        flow = replace(
            size.flow, sizes=sizes, negatives=negatives, above_target=1.0, distance=DISTANCES[1], threshold=20.0
        )
        # without limit and with the slower beta2 a short training was seen to leave the rails: 1e3 to 1e6 in 90 steps
        network = replace(size.network, identity=True, beta2=0.99, gradient_clip=6500.0)
        adaptation = replace(size.adaptation, stop="bits")
        if variant == "unguided":
            network = replace(network, training_steps=max(1, network.training_steps // 10))
        return replace(size, flow=flow, network=network, adaptation=adaptation)
    raise ValueError(f"variant: found {variant!r}, wanted one of {', '.join(VARIANTS)}")
