"""Many sessions at once between one bgpd and one peer, each with addresses and settings of its own.

A line is the addresses of one such session, on the one link between host (eth0) and leaf1 (swp1). Each peer's module
names its lines in `USED`. One bgpd and one peer are started for all of them, and its tests look at one line each.
"""

from __future__ import annotations

import contextlib
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

from labs.namespace import link
from tests.daemon.fabric import Fabric, FabricWithSwitch, Host, config, kernel_hops, table
from tests.interop.matrix import CANNOT, CAPABILITIES

ASN, HOST_ASN = 65201, 65203
WIDE_ASN = 4_200_000_001
"""An AS number that two octets do not hold."""
WIDE_BEYOND = 4_200_000_009
"""Another one, which the peer puts into the paths of the line "old"."""
AS_TRANS = 23456
"""What a peer that knows two octets only has in its place (RFC 6793)."""
NAMES = (
    "plain",
    "signed",
    "old",
    "six",
    "bulky",
    "room",
    "limited",
    "limiting",
    "lasting",
    "narrow",
    "role",
    "inside",
)
PODS = ("10.64.1.5/32", "10.64.1.6/32", "10.64.1.7/32", "2001:db8:64::5/128")
"""What bgpd announces on each line whose families have it."""
NETWORKS = ("10.9.0.0/16", "10.9.1.0/24")
"""What a peer announces on each line, and 2001:db8:9::/48."""
NETWORK6 = "2001:db8:9::/48"
COMMUNITIES = [f"65203:{number}" for number in range(1, 1101)]
"""More than a message of 4096 bytes holds."""
PEER_COMMUNITIES = [one.replace("65203:", "65201:") for one in COMMUNITIES]
"""The same of the peer."""
DYNAMIC_PEER, DYNAMIC_HOST = "10.0.1.241", "10.0.1.161"
"""Addresses that the other side has as a range only: 10.0.1.240/28, 10.0.1.160/28."""
DYNAMIC_NAME = f"10.0.1.240/28-{DYNAMIC_PEER}"


class Line(NamedTuple):
    """The addresses of both ends."""

    host: str
    peer: str


LINES = {
    name: Line(f"2001:db8:1::{101 + at}", f"2001:db8:1::{201 + at}")
    if name == "six"
    else Line(f"10.0.1.{101 + at}", f"10.0.1.{201 + at}")
    for at, name in enumerate(NAMES)
} | {
    "crossed": Line("10.0.8.1", "10.0.8.2"),
    "ranging": Line(DYNAMIC_HOST, "10.0.1.230"),
    "ranged": Line("10.0.1.130", DYNAMIC_PEER),
}


class Peer(ABC):
    """The other speaker, which has been started as leaf1: what tests ask of it, in its own words."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @abstractmethod
    def stop(self) -> None:
        """Have its processes ended."""

    @abstractmethod
    def is_up(self, line: str) -> bool:
        """Whether it says that the session of a line is established."""

    @abstractmethod
    def hears(self, line: str, prefix: str) -> bool:
        """Whether it shows a prefix that bgpd announces on a line."""

    @abstractmethod
    def told(self, line: str) -> str:
        """What it says of a line and of how its last session ended."""


def neighbor(line: str, *rows: str, **fields: object) -> str:
    """The [[neighbor]] of a line; `rows` are TOML lines besides its `fields`."""
    values = {
        "name": line,
        "address": LINES[line].peer,
        "source_address": LINES[line].host,
        "asn": ASN,
        "import_": "all",
        "connect_retry_s": 1,
        **fields,
    }
    return "\n".join([table("[[neighbor]]", **values).rstrip(), *rows, ""])


def listening(**fields: object) -> str:
    """The [[listen]] of the dynamic line."""
    return table("[[listen]]", prefix="10.0.1.240/28", asn=ASN, import_="all", **fields)


ONLY_IPV4 = {"families": ["ipv4-unicast"]}
BULKY_RULE = f'{{ match = {{ prefix = ["{PODS[0]}"] }}, set = {{ add_community = {COMMUNITIES!r} }} }}'
BULKY_POLICY = f"{table('[policy.bulky]')}rules = [{BULKY_RULE}]\n"
LAST_POLICY = f"{table('[policy.last]')}rules = [{{ set = {{ local_pref = 50 }} }}]\n"
"""The shorter AS path of an internal session would win over all others."""
TABLES: dict[str, Callable[[str], str]] = {
    "plain": lambda key: neighbor("plain"),
    "signed": lambda key: neighbor("signed", password_file=key, ttl_security=True, **ONLY_IPV4),
    "old": lambda key: neighbor("old", local_asn=WIDE_ASN, **ONLY_IPV4),
    "six": lambda key: neighbor("six"),
    "bulky": lambda key: neighbor("bulky", export="bulky", **ONLY_IPV4) + BULKY_POLICY,
    "room": lambda key: neighbor("room", max_prefixes=1, max_prefixes_action="discard", **ONLY_IPV4),
    "limited": lambda key: neighbor("limited", max_prefixes=1, max_prefixes_restart_after_s=3600, **ONLY_IPV4),
    "limiting": lambda key: neighbor("limiting", **ONLY_IPV4),
    "lasting": lambda key: neighbor(
        "lasting", "graceful_restart = { restart_time_s = 1, long_lived_s = 600 }", **ONLY_IPV4
    ),
    "narrow": lambda key: neighbor("narrow", **ONLY_IPV4),
    "crossed": lambda key: neighbor("crossed", **ONLY_IPV4),
    "role": lambda key: neighbor("role", role="customer", role_strict=True, **ONLY_IPV4),
    "inside": lambda key: neighbor("inside", asn="internal", local_asn=ASN, import_="last", **ONLY_IPV4) + LAST_POLICY,
    "ranging": lambda key: neighbor("ranging", **ONLY_IPV4),
    "ranged": lambda key: listening(**ONLY_IPV4),
    "loose": lambda key: table(
        "[[neighbor]]", name="loose", interface="eth9", asn="external", import_="all", connect_retry_s=1
    ),
}
"""bgpd's part of each line, given the file with the password."""


KEEPALIVES_ONLY = 90
"""Bytes of IP: those of a TCP segment without data or with a KEEPALIVE or a short NOTIFICATION, but not of an OPEN."""


class LinedFabric(FabricWithSwitch):
    """A fabric whose link between host and leaf1 has the addresses of the lines.

    There are two more links: eth9 - swp9 without addresses, and eth8 - swp8 of the line "crossed", with a switch in it.
    """

    def narrow(self, longest: int) -> None:
        """Have the switch lose frames with more than so many bytes of IP, without a word."""
        for interface in ("host", "leaf", "bridge"):
            self.switch.ip("link", "set", interface, "mtu", str(longest))


@contextlib.contextmanager
def laid() -> Iterator[LinedFabric]:
    """The fabric with all its links and addresses."""
    with LinedFabric() as fabric:
        for namespace, interface, end in ((fabric.host, "eth0", 0), (fabric.leaf1, "swp1", 1)):
            ends = [line[end] for name, line in LINES.items() if name != "crossed"]
            namespace.addresses(interface, *(f"{one}/{64 if ':' in one else 24}" for one in ends))
        link(fabric.host, "eth9", fabric.leaf1, "swp9")
        link(fabric.host, "eth8", fabric.switch, "host")
        link(fabric.switch, "leaf", fabric.leaf1, "swp8")
        fabric.switch.batch(
            "link add bridge type bridge forward_delay 0",
            "link set bridge up",
            "link set host master bridge",
            "link set leaf master bridge",
        )
        for namespace, interface, end in ((fabric.host, "eth8", 0), (fabric.leaf1, "swp8", 1)):
            namespace.addresses(interface, f"{LINES['crossed'][end]}/24")
        yield fabric


class PatientHost(Host):
    """Waits for longer: GoBGP and OpenBGPD let half a minute pass before they dial again."""

    def wait(self, predicate: Any, what: str, timeout_s: float = 60.0) -> float:
        return super().wait(predicate, what, timeout_s)


def bgpd(fabric: Fabric, *lines: str) -> Host:
    """bgpd with these lines, and with routes of its own."""
    key = fabric.host.make_directory("key") / "key"
    key.write_text("secret\n")
    pods = [table("[[workload.static]]", prefix=prefix, interface="pod1") for prefix in PODS]
    return PatientHost(fabric.host, config(*(TABLES[line](str(key)) for line in lines), *pods))


def check_up(host: Host, peer: Peer, line: str, *, name: str = "") -> dict[str, object]:
    """Both say that the session is established; bgpd's view of it."""
    host.wait_established(name or line)
    host.wait(lambda: peer.is_up(line), f"the peer to say that {line} is established")
    return host.neighbor(name or line)


def check_routes(host: Host, peer: Peer, line: str, family: str = "ipv4-unicast", *, name: str = "") -> None:
    """Both say that they have the other's routes of a family."""
    check_up(host, peer, line, name=name)
    mine = [pod for pod in PODS if (":" in pod) == (family == "ipv6-unicast")]
    theirs = {NETWORK6} if family == "ipv6-unicast" else set(NETWORKS)
    for prefix in mine:
        host.wait(lambda wanted=prefix: peer.hears(line, wanted), f"the peer to have {prefix} by {line}")
    host.wait(lambda: theirs <= received(host, name or line), f"bgpd to have {theirs} by {line}")


def check_cannot(host: Host, speaker: str) -> None:
    """What the matrix says that the peer cannot do, it offers on no line."""
    views = host.get("neighbors")
    offered = {capability for view in views for capability in view["capabilities"]}
    assert offered
    assert not offered & {CAPABILITIES[one] for one in CANNOT[speaker] if one in CAPABILITIES}
    if "two-octet" in CANNOT[speaker]:
        assert all("four-octet-as" in view["capabilities"] for view in views if view["capabilities"])
    if "peer-restarts" in CANNOT[speaker]:
        assert "both" not in {view["neighbor_graceful_restart"] for view in views}
    if "hard-reset" in CANNOT[speaker]:
        host.wait(lambda: host.neighbor("limited")["last_notification_sent"], "a session to be ended")
        assert host.neighbor("limited")["last_notification_sent"] == "cease/maximum-prefixes", "no hard reset"


def received(host: Host, name: str) -> set[str]:
    """The prefixes that bgpd has of a neighbor."""
    return {route["prefix"] for route in host.get("received", neighbor=name)}


def rows_with(log: Path, words: str) -> list[str]:
    """The lines of a peer's log that have these words."""
    return [row for row in log.read_text().splitlines() if words in row]


def check_signed(host: Host, peer: Peer) -> None:
    """A session with TCP MD5 signatures and GTSM."""
    check_routes(host, peer, "signed")
    assert host.neighbor("signed")["authentication"] == "md5"


def check_old(host: Host, peer: Peer) -> None:
    """One side knows AS numbers of two octets only; bgpd takes the others from AS4_PATH (RFC 6793)."""
    check_routes(host, peer, "old")
    assert "four-octet-as" not in host.neighbor("old")["negotiated"]
    paths = {route["as_path"] for route in host.get("received", neighbor="old")}
    assert paths == {f"{ASN} {WIDE_BEYOND}"}


def check_six(host: Host, peer: Peer) -> None:
    """IPv4 routes by IPv6 next hops, both ways (RFC 8950)."""
    check_up(host, peer, "six")
    assert "extended-next-hop" in host.neighbor("six")["negotiated"]
    host.wait(lambda: peer.hears("six", PODS[0]), "the peer to have an IPv4 route")
    host.wait(lambda: set(NETWORKS) <= received(host, "six"), "bgpd to have IPv4 routes")
    assert {":" in route["next_hop"] for route in host.get("received", neighbor="six")} == {True}


def check_ranged(host: Host, peer: Peer) -> None:
    """The peer is one that bgpd knows by a range of addresses."""
    check_routes(host, peer, "ranged", name=DYNAMIC_NAME)
    assert host.neighbor(DYNAMIC_NAME)["dynamic"]


def check_bulky(host: Host, line: str = "bulky") -> None:
    """Of the session: both use messages above 4096 bytes, and bgpd has sent and received routes that need one."""
    host.wait_established(line)
    assert "extended-message" in host.neighbor(line)["negotiated"]

    def sent() -> bool:
        return any(len(view["communities"]) == len(COMMUNITIES) for view in host.get("advertised", neighbor=line))

    host.wait(sent, "bgpd to have sent it")

    def heard() -> bool:
        return {len(view["communities"]) for view in host.get("received", neighbor=line)} == {len(PEER_COMMUNITIES)}

    host.wait(heard, "bgpd to have the peer's")


def check_internal(host: Host, peer: Peer) -> None:
    """An internal session: neither side adds its AS number to a path."""
    check_routes(host, peer, "inside")
    assert {(route["as_path"], route["local_pref"]) for route in host.get("received", neighbor="inside")} == {("", 100)}


def check_limited(host: Host, peer: Peer, words: str) -> None:
    """The peer announces more than bgpd takes, and says with which reason bgpd ended the session."""
    host.wait(lambda: host.neighbor("limited")["refused_until"], "bgpd to refuse the peer")
    sent = host.neighbor("limited")["last_notification_sent"]
    assert "cease/maximum-prefixes" in sent
    host.wait(lambda: words in peer.told("limited"), f"the peer to say {words!r} of {sent}")


def check_limiting(host: Host, peer: Peer, words: str) -> None:
    """bgpd announces more than the peer takes, and says with which reason the peer ended the session."""

    def said() -> str:
        return str(host.neighbor("limiting")["last_notification_received"])

    host.wait(lambda: "cease/maximum-prefixes" in said(), "bgpd to hear the reason")
    host.wait(lambda: words in peer.told("limiting"), f"the peer to say {words!r}")


def check_room(host: Host, withdraw: Callable[[str], object]) -> None:
    """Of two prefixes one is taken; when it is withdrawn, bgpd asks for the other one by ROUTE-REFRESH, and gets it."""
    host.wait(lambda: len(received(host, "room")) == 1, "one of two prefixes")
    (first,) = received(host, "room")
    (other,) = set(NETWORKS) - {first}
    withdraw(first)
    host.wait(lambda: received(host, "room") == {other}, "the other prefix in its place")
    assert host.neighbor("room")["established_count"] == 1


def check_loose(host: Host, peer: Peer) -> None:
    """A session by link-local addresses, with routes of both families both ways."""
    for family in ("ipv4-unicast", "ipv6-unicast"):
        check_routes(host, peer, "loose", family)
    view = host.neighbor("loose")
    assert (view["address"][:4], view["interface"]) == ("fe80", "eth9")
    host.wait(lambda: any(hop.endswith("%eth9") for hop in kernel_hops(host.namespace, NETWORKS[0])), "IPv4 by eth9")


def connections(host: Host, *words: str) -> int:
    """How many established TCP connections the line "crossed" has; `words` are further conditions of ss."""
    dst = ("dst", LINES["crossed"].peer)
    return len(host.namespace.run("ss", "-Htn", "state", "established", *words, *dst).splitlines())


def check_collision(fabric: LinedFabric, host: Host, peer: Peer, end: Callable[[], object]) -> None:
    """Two connections, one of each side, wait for OPEN messages, which are too long to pass: one connection is left.

    `end()` ends the session, so that both sides dial. Once in a while FRR 8.4 closes both (it ends the one that it is
    to keep as soon as it is told that the other one is closed), and they connect anew.
    """
    check_up(host, peer, "crossed")
    count = host.neighbor("crossed")["established_count"]
    fabric.narrow(KEEPALIVES_ONLY)
    try:
        end()
        host.wait(lambda: host.neighbor("crossed")["state"] != "established", "the end of the session")
        both = ("sport", "dport")
        host.wait(lambda: all(connections(host, port, "=", ":179") for port in both), "both sides to have connected")
    finally:
        fabric.narrow(1500)
    host.wait(lambda: host.neighbor("crossed")["established_count"] > count, "the next session")
    check_up(host, peer, "crossed")
    host.wait(lambda: connections(host) == 1, "one connection")
    check_up(host, peer, "crossed")


def check_one_connection(host: Host, peer: Peer, dial: Callable[[], object]) -> None:
    """The peer dials while bgpd stands still, and bgpd may dial as soon as it goes on: one connection is left."""
    check_up(host, peer, "crossed")
    count = host.neighbor("crossed")["established_count"]
    os.kill(host.pid, signal.SIGSTOP)
    try:
        dial()
        host.wait(lambda: connections(host, "sport", "=", ":179") > 0, "the peer to dial")
    finally:
        os.kill(host.pid, signal.SIGCONT)
    host.wait(lambda: host.neighbor("crossed")["established_count"] > count, "the next session")
    check_up(host, peer, "crossed")
    host.wait(lambda: connections(host) == 1, "one connection")


def check_kept_there(host: Host, is_stale: Callable[[str], bool], *lines: str) -> None:
    """bgpd restarts: the peer keeps its route as stale until bgpd is back, which ends that, on each of these lines."""
    host.terminate()
    for line in lines:
        host.wait(lambda wanted=line: is_stale(wanted), f"the peer to keep the route of {line}")
    host.start()
    host.wait_established(*lines)
    for line in lines:
        host.wait(lambda wanted=line: not is_stale(wanted), f"the peer to have the route of {line} anew")


def check_kept_here(host: Host, end: Callable[[], object], begin: Callable[[], object]) -> None:
    """The peer is away for longer than its restart time: its routes are long-lived stale ones until it is back."""
    host.wait(lambda: received(host, "lasting") == set(NETWORKS), "the routes")
    end()
    host.wait(lambda: host.neighbor("lasting")["stale_stage"] == "long-lived", "the long-lived stage")
    assert host.neighbor("lasting")["stale_routes"] == len(NETWORKS)
    begin()
    host.wait_established("lasting")
    host.wait(lambda: not host.neighbor("lasting")["stale_families"], "the end of that")
    host.wait(lambda: received(host, "lasting") == set(NETWORKS), "the peer's routes anew")
