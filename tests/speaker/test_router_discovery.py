"""Router Advertisements as bytes, and between two namespaces."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading

import pytest

from bgpd.model.prefix import parse_address
from bgpd.speaker.router_discovery import (
    MOST_HEARD,
    RouterDiscovery,
    encode_advertisement,
    encode_solicitation,
    is_valid_advertisement,
    is_valid_solicitation,
)
from labs.namespace import Namespace, link
from labs.process import wait_until

MAC = bytes.fromhex("02aabbccddee")
LINK_LOCAL = parse_address("fe80::1")


def test_advertisement_says_that_we_are_no_default_router() -> None:
    message = encode_advertisement(MAC)
    assert message == bytes.fromhex("86000000 40 00 0000 00000000 00000000 0101") + MAC
    assert is_valid_advertisement(message, source=LINK_LOCAL, hop_limit=255)


def test_solicitation_carries_our_mac() -> None:
    message = encode_solicitation(MAC)
    assert message == bytes.fromhex("85000000 00000000 0101") + MAC
    assert is_valid_solicitation(message, hop_limit=255)


def test_interface_without_mac_sends_no_option() -> None:
    assert len(encode_advertisement(b"")) == 16


@pytest.mark.parametrize(
    ("message", "source", "hop_limit"),
    [
        (encode_advertisement(MAC), LINK_LOCAL, 254),
        (encode_advertisement(MAC), parse_address("2001:db8::1"), 255),
        (encode_advertisement(MAC)[:15], LINK_LOCAL, 255),
        (encode_solicitation(MAC), LINK_LOCAL, 255),
        (b"\x86\x01" + encode_advertisement(MAC)[2:], LINK_LOCAL, 255),
        (b"", LINK_LOCAL, 255),
    ],
)
def test_advertisement_that_did_not_come_from_the_link_is_ignored(
    message: bytes, source: bytes, hop_limit: int
) -> None:
    assert not is_valid_advertisement(message, source=source, hop_limit=hop_limit)


@pytest.mark.netns
def test_two_hosts_hear_each_other() -> None:
    with Namespace("left", prefix="b") as left, Namespace("right", prefix="b") as right:
        link(left, "eth0", right, "eth0")
        heard: dict[str, list[tuple[int, bytes]]] = {"left": [], "right": []}
        stop = threading.Event()

        async def speak(name: str) -> None:
            discovery = RouterDiscovery(
                advertised=lambda index, source: heard[name].append((index, source)), solicited=lambda index: None
            )
            assert discovery.open()
            discovery.listen(frozenset((index[name],)))
            while not stop.is_set():
                discovery.advertise(index[name], MAC)
                await asyncio.sleep(0.1)
            discovery.close()

        def run(name: str, namespace: Namespace) -> None:
            with namespace.entered():
                asyncio.run(speak(name))

        places = {"left": left, "right": right}
        index = {name: int(place.run("cat", "/sys/class/net/eth0/ifindex")) for name, place in places.items()}
        threads = [threading.Thread(target=run, args=item) for item in places.items()]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: heard["left"] and heard["right"], 10, "both to hear the other")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert heard["left"][0][0] == index["left"]
        assert heard["left"][0][1][:2] == b"\xfe\x80"


@pytest.mark.netns
def test_only_interfaces_with_unnumbered_neighbors_are_heard_and_a_flood_mutes_its_own() -> None:
    with (
        Namespace("host", prefix="b") as host,
        Namespace("leaf", prefix="b") as leaf,
        Namespace("vm", prefix="b") as vm,
    ):
        link(host, "eth0", leaf, "eth0")
        link(host, "eth1", leaf, "eth1")
        link(host, "tap0", vm, "eth0")
        names = ("eth0", "eth1", "tap0")
        index = {name: int(host.run("cat", f"/sys/class/net/{name}/ifindex")) for name in names}
        senders = {"eth0": (leaf, "eth0"), "eth1": (leaf, "eth1"), "tap0": (vm, "eth0")}
        heard: list[int] = []

        def send(name: str, count: int) -> None:
            """Advertisements from the other end."""
            where, interface = senders[name]
            number = int(where.run("cat", f"/sys/class/net/{interface}/ifindex"))
            with where.entered(), socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sock:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
                for _ in range(count):
                    sock.sendto(encode_advertisement(MAC), ("ff02::1", 0, 0, number))

        def sends(name: str) -> bool:
            """Whether the other end's link-local address is there."""
            with contextlib.suppress(OSError):
                send(name, 1)
                return True
            return False

        async def listen() -> None:
            discovery = RouterDiscovery(advertised=lambda number, _: heard.append(number), solicited=lambda _: None)
            assert discovery.open()
            discovery.listen(frozenset((index["eth0"], index["eth1"])))
            for name in ("tap0", "eth0"):
                await asyncio.to_thread(send, name, 5 * MOST_HEARD)
            while index["eth1"] not in heard:
                await asyncio.to_thread(send, "eth1", 1)
                await asyncio.sleep(0.05)
            assert heard.count(index["eth0"]) == MOST_HEARD
            assert index["tap0"] not in heard
            async with asyncio.timeout(5.0):
                while heard.count(index["eth0"]) == MOST_HEARD:
                    await asyncio.to_thread(send, "eth0", 1)
                    await asyncio.sleep(0.05)
            discovery.close()

        for name in names:
            wait_until(lambda name=name: sends(name), 10, f"{name} to have an address")
        with host.entered():
            asyncio.run(asyncio.wait_for(listen(), 20.0))
