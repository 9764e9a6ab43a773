"""What one neighbor sends costs no more than its share of time and memory, and never another neighbor's session."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from labs.daemons import Frr
from tests.daemon.fabric import Fabric, kernel_hops, leaf, started, table
from tests.daemon.wire_peer import WirePeer, attribute, update

pytestmark = pytest.mark.netns

NEARLY = table("[policy.nearly]") + 'rules = [{ match = { as_path = ["^(65\\\\d+ ?)+$"] }, action = "accept" }]\n'


@pytest.fixture(scope="module")
def leaf2(fabric: Fabric) -> Iterator[Frr]:
    """The good neighbor beside the bad one."""
    with fabric.frr(2, networks=("10.9.0.0/16",)) as frr:
        yield frr


def sequence(*asns: int) -> bytes:
    """An AS_SEQUENCE after the one of the peer's own AS that `update` writes."""
    return struct.pack(f"!BB{len(asns)}I", 2, len(asns), *asns)


def with_path(prefix: str, *asns: int) -> bytes:
    """An UPDATE whose AS path is 65201 and `asns`."""
    own = struct.pack("!BBI", 2, 1, 65201)
    return lengthened(update((prefix,), asn=65201), attribute(0x40, 2, own), own + sequence(*asns))


def lengthened(message: bytes, old: bytes, path: bytes) -> bytes:
    """The UPDATE with another AS_PATH value."""
    new = struct.pack("!BBH", 0x50, 2, len(path)) + path
    body = message[19:].replace(old, new)
    block = struct.unpack("!H", body[2:4])[0] + len(new) - len(old)
    body = body[:2] + struct.pack("!H", block) + body[4:]
    return message[:16] + struct.pack("!H", 19 + len(body)) + message[18:19] + body


def test_path_that_nearly_matches_an_expression_holds_nobody_up(fabric: Fabric, leaf2: Frr) -> None:
    leaves = (leaf(1, families=["ipv4-unicast"], import_="nearly"), leaf(2))
    with started(fabric, *leaves, NEARLY) as host, WirePeer(fabric.leaf1) as peer:
        host.wait_established("leaf2")
        before = host.neighbor("leaf2")["established_count"]
        connection = peer.establish()
        connection.sendall(with_path("10.20.0.0/16", *[65001] * 40, 7))
        connection.sendall(with_path("10.22.0.0/16", *[65001] * 255))
        connection.sendall(with_path("10.21.0.0/16", *[65001] * 40))
        host.wait_hops("10.21.0.0/16", "10.0.1.2%eth0")
        assert kernel_hops(fabric.host, "10.20.0.0/16") == []
        assert host.get("routes", prefix="10.20.0.0/16")[0]["candidates"][0]["reason"].endswith("no rule accepts it")
        view = host.neighbor("leaf2")
        assert (view["state"], view["established_count"]) == ("established", before)
        host.wait_hops("10.9.0.0/16", "10.0.2.2%eth1")
