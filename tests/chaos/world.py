"""What the steps of a run share: the parts, the model, what is broken just now, and what that may cost."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.chaos.model import PINGED, Model
from tests.chaos.network import Network


class World:
    """`chance` is of the current step alone, so that a step does the same whatever came before it was left out."""

    def __init__(self, network: Network, model: Model) -> None:
        self.network = network
        self.model = model
        self.chance = random.Random()
        self.detail = ""
        """What the current step chose, for the log."""
        self.touched: set[str] = set()
        """The addresses of the host that this round's steps have to do with, or the name of a VRF: all in it."""
        self.hurt: set[int] = set()
        """The leaves by which pings may be lost in this round."""
        self._repairs: dict[str, Callable[[], None]] = {}

    def may_hurt(self, *leaves: int) -> None:
        """From now until all is calm again pings by these leaves (by all, where none is named) may be lost."""
        self.hurt.update(leaves or PINGED)

    def touch(self, *addresses: str) -> None:
        """These addresses, or all of a VRF, may be withdrawn in this round."""
        self.touched.update(addresses)

    def has_broken(self, part: str) -> bool:
        return part in self._repairs

    def breaks(self, part: str, repair: Callable[[], None]) -> None:
        """`part` is broken now; `repair` is called later in this round, or at its end."""
        self._repairs[part] = repair

    def repair_one(self) -> str:
        """Repair what was broken first; its name, "" if nothing is broken."""
        part = next(iter(self._repairs), "")
        if part:
            self._repairs.pop(part)()
        return part

    def repair_all(self) -> None:
        while self.repair_one():
            pass
