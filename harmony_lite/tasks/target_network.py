"""What the networks share that papers judge by: they have seen the target domain only, and come with weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from harmony_lite import weights
from harmony_lite.profiles import active
from harmony_lite.training import History

__all__ = ["TargetNetwork"]


class TargetNetwork(ABC):
    """A network trained on scans of the target domain, its settings and its weights.

    Class attributes:
        name: of its weights.
        variant: of its weights.
        classifier: how tables call it.
    """

    name: ClassVar[str]
    variant: ClassVar[str] = "target"
    classifier: ClassVar[str]
    is_trained: ClassVar[bool] = True

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.histories: dict[str, History] = {}
        self._network: nn.Module | None = None

    @abstractmethod
    def _new_network(self) -> nn.Module:
        """Untrained."""

    @classmethod
    def shipped(cls, variant: str | None = None) -> Self:
        """With the weights that come for the active profile: of a variant, where a recipe makes several.

        Raises:
            FileNotFoundError: none are shipped for it.
        """
        return cls().load(weights.shipped(cls.name, variant or cls.variant, active().name))

    def load(self, path: str | Path) -> Self:
        """Read weights with their card; returns itself, with the settings of the card.

        Raises:
            FileNotFoundError, ValueError: as `harmony_lite.weights.load`; a network of another form.
        """
        state, card = weights.load(path)
        return self.take_settings(card.settings).load_state(state)

    def take_settings(self, stored: Mapping[str, Any]) -> Self:
        """Take over the settings that a card holds; returns itself."""
        self.settings = weights.settings_as_stored(self.settings, stored)
        return self

    def state(self) -> dict[str, Tensor]:
        """The network's tensors."""
        return weights.without_counters(self.network)

    def load_state(self, state: dict[str, Tensor]) -> Self:
        """Take over what an earlier fit learned.

        Raises:
            ValueError: a network of another form.
        """
        network = self._new_network()
        if set(state) != set(weights.without_counters(network)):
            raise ValueError(f"{self.classifier}: found {len(state)} tensors, wanted those of its network")
        try:
            network.load_state_dict(state, strict=False)
        except RuntimeError as error:
            raise ValueError(f"{self.classifier}: found a network of another form: {error}") from error
        self._network = network.eval()
        return self

    @property
    def network(self) -> nn.Module:
        """The trained network (ValueError before there is one)."""
        if self._network is None:
            raise ValueError(f"{self.classifier}: found no network, wanted `fit` or the shipped weights")
        return self._network

    @property
    def history(self) -> History:
        """Of the training."""
        return History.joined(self.histories.values())
