"""Neighbors that announce more than max_prefixes: discarded and asked for again, or reset and let back after a time."""

from __future__ import annotations

import pytest

from tests.daemon.fabric import Fabric, Host, announce, config, kernel_routes, leaf, started, table
from tests.daemon.wire_peer import KEEPALIVE, WirePeer, notification, receive, update, withdrawal

pytestmark = pytest.mark.netns

ROUTE_REFRESH = 5
DISCARD = {"families": ["ipv4-unicast"], "max_prefixes": 3, "max_prefixes_action": "discard"}


def prefixes(*numbers: int) -> tuple[str, ...]:
    return tuple(f"10.{number}.0.0/16" for number in numbers)


def counts(host: Host, name: str = "leaf1") -> tuple[int, int]:
    """Prefixes of a neighbor that were taken, and those that were discarded."""
    found = host.neighbor(name)["families"]["ipv4-unicast"]
    return found["received"], found["discarded"]


def test_what_is_too_much_is_left_out_and_asked_for_once_there_is_room(fabric: Fabric) -> None:
    with WirePeer(fabric.leaf1) as peer, started(fabric, leaf(1, **DISCARD)) as host:
        leaf1 = peer.establish()
        leaf1.sendall(update(prefixes(21, 22, 23, 24, 25), asn=65201))
        host.wait(lambda: counts(host) == (3, 2), "two to be left out")
        host.wait(lambda: set(kernel_routes(fabric.host)) == set(prefixes(21, 22, 23)), "three routes")
        assert host.established() == ["leaf1"]
        assert host.metric("bgpd_neighbor_prefixes_discarded", neighbor="leaf1", family="ipv4-unicast") == 2
        assert any("2 ipv4-unicast prefixes beyond max_prefixes" in one for one in host.health()["warnings"])
        assert "2 beyond max_prefixes discarded" in host.cli("show", "neighbors")
        leaf1.sendall(withdrawal(*prefixes(22)))
        while (message := receive(leaf1))[0] != ROUTE_REFRESH:
            assert message[0] != 3, message
        assert message[1] == bytes((0, 1, 0, 1))
        leaf1.sendall(update(prefixes(21, 23, 24, 25), asn=65201))
        host.wait(lambda: counts(host) == (3, 1), "one to be left out")
        host.wait(lambda: set(kernel_routes(fabric.host)) == set(prefixes(21, 23, 24)), "the next one")
        host.write_config(config(leaf(1, **{**DISCARD, "max_prefixes": 4})))
        host.cli("reload")
        assert counts(host) == (3, 1), "it is asked again a minute after the last time"
        leaf1.sendall(update(prefixes(25), asn=65201))
        host.wait(lambda: counts(host) == (4, 0), "all of them")
        assert host.neighbor("leaf1")["established_count"] == 1


def test_frr_sends_again_what_was_left_out(fabric: Fabric) -> None:
    sent = [f"10.{number}.0.0/16" for number in range(31, 36)]
    ranged = table(
        "[[listen]]", prefix="10.0.2.0/24", asn="external", import_="all", max_prefixes=3, max_prefixes_action="discard"
    )
    with fabric.frr(2, networks=tuple(sent)) as frr, started(fabric, ranged) as host:
        host.wait(lambda: host.established(), "the session")
        name = host.established()[0]
        host.wait(lambda: counts(host, name) == (3, 2), "two to be left out")
        announce(frr, next(iter(kernel_routes(fabric.host))), withdraw=True)
        host.wait(lambda: counts(host, name) == (3, 1), "one of them in the place that came free")
        assert [record["event"] for record in host.log("prefix_limit.asked_again")] == ["prefix_limit.asked_again"]


def test_a_neighbor_that_was_reset_comes_back_when_its_time_is_over(fabric: Fabric) -> None:
    fields = {"families": ["ipv4-unicast"], "max_prefixes": 1, "max_prefixes_restart_after_s": 2}
    with WirePeer(fabric.leaf1) as peer, started(fabric, leaf(1, **fields)) as host:
        leaf1 = peer.establish()
        leaf1.sendall(update(prefixes(41, 42), asn=65201))
        assert notification(leaf1) == (6, 1)
        host.wait(lambda: "refused for 2 s" in host.neighbor("leaf1")["last_error"], "the reason")
        again = peer.establish()
        host.wait_established("leaf1")
        again.sendall(update(prefixes(41), asn=65201))
        host.wait(lambda: counts(host) == (1, 0), "the route")
        assert receive(again)[0] in (2, KEEPALIVE)


def test_a_reload_to_discard_lets_a_refused_neighbor_back_at_once(fabric: Fabric) -> None:
    fields = {"families": ["ipv4-unicast"], "max_prefixes": 1, "max_prefixes_restart_after_s": 3600}
    with WirePeer(fabric.leaf1) as peer, started(fabric, leaf(1, **fields)) as host:
        leaf1 = peer.establish()
        leaf1.sendall(update(prefixes(41, 42), asn=65201))
        assert notification(leaf1) == (6, 1)
        host.wait(lambda: host.neighbor("leaf1")["refused_until"], "the refusal")
        host.write_config(config(leaf(1, **{**fields, "max_prefixes_action": "discard"})))
        host.cli("reload")
        peer.establish().sendall(update(prefixes(41, 42), asn=65201))
        host.wait(lambda: host.established() and counts(host) == (1, 1), "one route of two")
