"""What one neighbor sends costs no more than its share of time and memory, and never another neighbor's session."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labs.daemons import Frr
from tests.daemon.fabric import Fabric, Host, config, kernel_hops, leaf, started, table
from tests.daemon.wire_peer import UPDATE, WirePeer, attribute, message, notification, update

pytestmark = pytest.mark.netns

NEARLY = table("[policy.nearly]") + 'rules = [{ match = { as_path = ["^(65\\\\d+ ?)+$"] }, action = "accept" }]\n'


def segment(*asns: int) -> bytes:
    """An AS_SEQUENCE."""
    return struct.pack(f"!BB{len(asns)}I", 2, len(asns), *asns)


def with_path(prefix: str, value: bytes) -> bytes:
    """An UPDATE with this AS path."""
    own, path = attribute(0x40, 2, segment(65201)), attribute(0x40, 2, value)
    body = update((prefix,), asn=65201)[19:].replace(own, path)
    block = int.from_bytes(body[2:4]) + len(path) - len(own)
    return message(UPDATE, body[:2] + block.to_bytes(2) + body[4:])


def test_path_that_nearly_matches_an_expression_holds_nobody_up(fabric: Fabric, leaf2: Frr) -> None:
    leaves = (leaf(1, families=["ipv4-unicast"], import_="nearly"), leaf(2))
    with started(fabric, *leaves, NEARLY) as host, WirePeer(fabric.leaf1) as peer:
        host.wait_established("leaf2")
        before = host.neighbor("leaf2")["established_count"]
        connection = peer.establish()
        connection.sendall(with_path("10.20.0.0/16", segment(65201) + segment(*[65001] * 40, 7)))
        connection.sendall(with_path("10.22.0.0/16", segment(65201) + segment(*[65001] * 255)))
        connection.sendall(with_path("10.21.0.0/16", segment(65201) + segment(*[65001] * 40)))
        host.wait_hops("10.21.0.0/16", "10.0.1.2%eth0")
        assert kernel_hops(fabric.host, "10.20.0.0/16") == []
        assert host.get("routes", prefix="10.20.0.0/16")[0]["candidates"][0]["reason"].endswith(
            "no rule accepts it (step 0)"
        )
        view = host.neighbor("leaf2")
        assert (view["state"], view["established_count"]) == ("established", before)
        host.wait_hops("10.9.0.0/16", "10.0.2.2%eth1")


MANY = 3_000
LENGTH = 64_800
"""Bytes of an attribute: 5,400 large communities."""
MIB = 1 << 20
GENEROUS = 160 * MIB
"""For 32 MiB of attributes: what one turn of the loop reads beyond it, and freed memory that is not given back yet."""


def resident(host: Host) -> int:
    """Resident memory of the daemon, in bytes."""
    status = Path(f"/proc/{host.pid}/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")))


def peak(host: Host) -> int:
    status = Path(f"/proc/{host.pid}/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))


def distinct_large_communities(number: int) -> bytes:
    count = LENGTH // 12
    return attribute(0xC0, 32, struct.pack(f"!{3 * count}I", *range(number, number + 3 * count)))


def unknown(number: int) -> bytes:
    return attribute(0xC0, 200, number.to_bytes(4) * (LENGTH // 4))


def nested(number: int) -> bytes:
    """An ATTR_SET: attributes within an attribute (RFC 6368)."""
    return attribute(0xC0, 128, struct.pack("!I", 65201) + attribute(0xC0, 8, number.to_bytes(4) * (LENGTH // 4)))


def long_path(number: int) -> bytes:
    """An AS path of 15,900 AS numbers."""
    return segment(65201) + segment(*range(number + 1, number + 256)) * 62


def tiny(number: int) -> bytes:
    return attribute(0xC0, 8, number.to_bytes(4))


@pytest.fixture(scope="module")
def bounded(fabric: Fabric, leaf2: Frr) -> Iterator[Host]:
    """leaf1 is for the tests to play, and may fill 32 MiB with attributes."""
    one = leaf(1, families=["ipv4-unicast"], max_attribute_bytes=32 * MIB)
    with started(fabric, one, leaf(2)) as host:
        host.wait_established("leaf2")
        host.wait_hops("10.9.0.0/16", "10.0.2.2%eth1")
        yield host


@pytest.mark.parametrize("made", [distinct_large_communities, unknown, nested, long_path, tiny])
def test_attributes_over_the_limit_end_the_session_and_their_memory_comes_back(
    fabric: Fabric, bounded: Host, made: Callable[[int], bytes]
) -> None:
    """With lists of Python numbers 3,000 such routes took 2.9 GB."""
    host = bounded
    before, established = resident(host), host.neighbor("leaf2")["established_count"]
    with WirePeer(fabric.leaf1) as peer:
        connection = peer.establish(extended=True)
        with contextlib.suppress(OSError):
            for number in range(MANY if made is not tiny else 80_000):
                prefix = f"20.{number >> 16}.{number >> 8 & 255}.{number & 255}/32"
                if made is long_path:
                    connection.sendall(with_path(prefix, made(number)))
                else:
                    connection.sendall(update((prefix,), asn=65201, extra=made(number)))
        assert notification(connection) == (6, 8)
    told = "more than max_attribute_bytes (33554432); refused for 60 s, or until that is raised"
    host.wait(lambda: told in host.neighbor("leaf1")["last_error"], "the reason")
    view = host.neighbor("leaf1")
    assert (view["state"], view["max_attribute_bytes"]) == ("idle", 32 * MIB)
    assert peak(host) < before + GENEROUS
    view = host.neighbor("leaf2")
    assert (view["state"], view["established_count"]) == ("established", established)
    assert kernel_hops(fabric.host, "10.9.0.0/16") == ["10.0.2.2%eth1"]
    host.wait(lambda: not host.get("routes", neighbor="leaf1"), "its routes to go")
    host.wait(lambda: resident(host) < before + 30 * MIB, "the memory to come back", timeout_s=30)
    raised = leaf(1, families=["ipv4-unicast"], max_attribute_bytes=33 * MIB)
    host.write_config(config(raised, leaf(2)))
    host.cli("reload")
    with WirePeer(fabric.leaf1) as peer:
        peer.establish()
        host.wait_established("leaf1")
    host.write_config(config(leaf(1, families=["ipv4-unicast"], max_attribute_bytes=32 * MIB), leaf(2)))
    host.cli("reload")


def test_what_attributes_take_is_shown(fabric: Fabric, bounded: Host) -> None:
    with WirePeer(fabric.leaf1) as peer:
        connection = peer.establish(extended=True)
        connection.sendall(update(("20.0.0.0/24", "20.0.1.0/24"), asn=65201, extra=unknown(1)))
        bounded.wait_hops("20.0.1.0/24", "10.0.1.2%eth0")
        view = bounded.neighbor("leaf1")
        assert LENGTH < view["attribute_bytes"] < LENGTH + 4096
        assert bounded.metric("bgpd_neighbor_attribute_bytes", neighbor="leaf1") == view["attribute_bytes"]
        assert bounded.metric("bgpd_neighbor_attribute_limit_bytes", neighbor="leaf1") == 32 * MIB
    bounded.wait(lambda: bounded.neighbor("leaf1")["attribute_bytes"] == 0, "the count to go with the session")
