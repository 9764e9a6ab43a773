"""Two namespaces with a link: "host", where a Speaker runs, and "leaf", where a real daemon does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labs.namespace import Namespace, link
from tests.daemon.fabric import Host
from tests.interop.evpn_fabric import EvpnFabric
from tests.interop.lines import LinedFabric, Peer, bgpd, laid


class Pair:
    """host eth0 10.0.1.1, 2001:db8:1::1 - leaf swp1 10.0.1.2, 2001:db8:1::2; host eth1 - leaf swp2 unnumbered."""

    def __init__(self, host: Namespace, leaf: Namespace) -> None:
        self.host = host
        self.leaf = leaf


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Namespace("host", prefix="b") as host, Namespace("leaf", prefix="b") as leaf:
        link(host, "eth0", leaf, "swp1")
        link(host, "eth1", leaf, "swp2")
        host.addresses("eth0", "10.0.1.1/24", "2001:db8:1::1/64")
        leaf.addresses("swp1", "10.0.1.2/24", "2001:db8:1::2/64")
        yield Pair(host, leaf)


@pytest.fixture(scope="module")
def fabric() -> Iterator[EvpnFabric]:
    with EvpnFabric() as made:
        yield made


@pytest.fixture(scope="module")
def lines() -> Iterator[LinedFabric]:
    with laid() as made:
        yield made


@pytest.fixture(scope="module")
def host(lines: LinedFabric, peer: Peer, request: pytest.FixtureRequest) -> Iterator[Host]:
    """bgpd with the lines that the module has in `USED`, beside the `peer` of the module."""
    with bgpd(lines, *request.module.USED) as host:
        yield host
