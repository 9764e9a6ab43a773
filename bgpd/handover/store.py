"""How descriptors reach the next process of bgpd: whoever keeps them until it starts.

Knows nothing of what the descriptors are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class StoreUnusable(Exception):
    """Nobody keeps the descriptors; the text says why."""


class DescriptorStore(Protocol):
    """Who keeps descriptors from one process to the next."""

    def keep(self, descriptors: Mapping[str, int]) -> None:
        """Have duplicates of these kept, by name, until the successor starts.

        Raises: StoreUnusable: none is kept.
        """


def inherited() -> dict[str, int]:
    """What a predecessor left to this process, by name, each once: a second call finds nothing."""
    return {}
