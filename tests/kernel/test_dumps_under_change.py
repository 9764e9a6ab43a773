"""Dumps of the real kernel while IPv6 routes change: many lack routes that stand; none of these is taken for gone."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bgpd.kernel.foreign_reader import ForeignReader, Scope
from bgpd.kernel.foreign_routes import Place, Routes
from bgpd.kernel.netlink import open_socket
from bgpd.kernel.route_messages import RouteForm, encode_adds, encode_deletes
from bgpd.model.iana import Family
from tests.own_network import ip_batch, own_network

pytestmark = pytest.mark.netns

V6 = Family.IPV6_UNICAST
FORM = RouteForm(254, 197, 20)
READINGS = 60


@pytest.fixture
def names() -> Iterator[dict[int, str]]:
    """A network with 300 stable IPv6 routes on 8 interfaces; interfaces by index."""
    with own_network():
        lines = [f"link add c{n} index {n + 10} type veth peer name p{n} index {n + 100}" for n in range(8)]
        lines += [f"link set {end}{n} up" for n in range(8) for end in "cp"]
        lines += [f"route add 2001:db8:66::{n:x}/128 dev c{n % 8}" for n in range(1, 301)]
        ip_batch(*lines)
        yield {1: "lo", **{n + 10: f"c{n}" for n in range(8)}, **{n + 100: f"p{n}" for n in range(8)}}


@contextmanager
def changing_routes() -> Iterator[None]:
    """699 routes of bgpd's, ahead of the stable ones in the table, come and go."""
    keys = [b"\x40" + bytes.fromhex("20010db80001") + n.to_bytes(2, "big") for n in range(699)]
    adds = [encode_adds(V6, keys[first : first + 40], -10, FORM) for first in range(0, 699, 40)]
    deletes = [encode_deletes(V6, keys[first : first + 40], FORM) for first in range(0, 699, 40)]
    stop = threading.Event()
    opened = open_socket(send_bytes=8 << 20)

    def change() -> None:
        while not stop.is_set():
            for batch in (*adds, *deletes):
                opened.send(batch)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        opened.close()


def stable(known: dict[Place, Routes]) -> int:
    return sum(place[2].startswith(b"\x80" + bytes.fromhex("20010db80066")) for place in known)


@pytest.mark.parametrize("scope", [Scope(V6), Scope(V6, protocol=3)], ids=["all", "one protocol"])
def test_no_stable_route_is_taken_for_gone(names: dict[int, str], scope: Scope) -> None:
    reader = ForeignReader(FORM.protocol)
    known: dict[Place, Routes] = {}
    try:
        reader.read([Scope(V6)], known, names)
        assert stable(known) == 300
        with changing_routes():
            for _ in range(READINGS):
                reader.read([scope], known, names)
                assert stable(known) == 300
    finally:
        reader.close()


def test_route_that_goes_is_found_gone_while_others_change(names: dict[int, str]) -> None:
    reader = ForeignReader(FORM.protocol)
    known: dict[Place, Routes] = {}
    try:
        reader.read([Scope(V6)], known, names)
        with changing_routes():
            subprocess.run(["ip", "-6", "route", "del", "2001:db8:66::1", "dev", "c1"], check=True)
            reader.read([Scope(V6)], known, names)
        assert stable(known) == 299
    finally:
        reader.close()
