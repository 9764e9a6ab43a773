"""What the tests of one module share: the fabric, and in it leaves and an orchestrator, where a test asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.daemons import Frr
from tests.daemon.fabric import Fabric
from tests.daemon.feed import Orchestrator
from tests.daemon.planted import Planted
from tests.daemon.wire_peer import WirePeer

LEARNED = "10.9.0.0/16"
"""What leaves announce."""


@pytest.fixture(scope="module")
def fabric() -> Iterator[Fabric]:
    with Fabric() as fabric:
        yield fabric


@pytest.fixture(scope="module")
def frr(fabric: Fabric) -> Iterator[Frr]:
    """The one leaf that a test needs: leaf1."""
    with fabric.frr(1, networks=(LEARNED,)) as frr:
        yield frr


@pytest.fixture(scope="module")
def leaf2(fabric: Fabric) -> Iterator[Frr]:
    """The good neighbor beside one that a test plays."""
    with fabric.frr(2, networks=(LEARNED,)) as frr:
        yield frr


@pytest.fixture
def peer(fabric: Fabric) -> Iterator[WirePeer]:
    """The test itself, as leaf1."""
    with WirePeer(fabric.leaf1) as peer:
        yield peer


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Planted:
    return Planted(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def feed(fabric: Fabric) -> Iterator[Orchestrator]:
    with Orchestrator(fabric.host) as feed:
        yield feed
