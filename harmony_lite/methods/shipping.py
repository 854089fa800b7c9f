"""Which weights of a method come with the package."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Shipping"]


@dataclass(frozen=True)
class Shipping:
    """Which weights of a method come with the package.

    Attributes:
        variants: those that have a file of weights; empty means that each variant has its file.
        target: the first scanner of those that the weights were made on.
        also: further files, each of a variant for another target: ("ours", "abide_kki").
        shared: whether a variant without a file takes that of the first variant that has one, to use it otherwise.
        by_profile: False for weights that do not depend on the profile; they are shipped once, made in `quick`.
    """

    variants: tuple[str, ...] = ()
    target: str = "oasis_trio"
    also: tuple[tuple[str, str], ...] = ()
    shared: bool = True
    by_profile: bool = True

    def targets(self, variant: str) -> tuple[str, ...]:
        """The scanners that a variant with a file of its own has weights for, the usual target first."""
        return (self.target, *(target for name, target in self.also if name == variant))
