"""Route target constraint: what this host asks for, and what it tells neighbors that ask."""

from __future__ import annotations

import pytest

from bgpd.message.open import GracefulRestart
from bgpd.model.communities import format_membership, membership_key, parse_route_target
from bgpd.model.iana import Family
from bgpd.model.route_batch import RouteBatch
from bgpd.model.source import Source
from tests.evpn.build import CONFIG, EVPN, Host, leaf
from tests.message.decoding import negotiated

RTC = Family.ROUTE_TARGET
BLUE = parse_route_target("65201:5001")


def asks(host: Host, source: Source, *keys: bytes, withdrawn: tuple[bytes, ...] = ()) -> None:
    if host.evpn.memberships_received(source, RouteBatch(family=RTC, announced=keys, withdrawn=withdrawn)):
        host.rib.received.refresh_requested(source, Family.L2VPN_EVPN)
    host.turn()


def told_types(host: Host, name: str = "leaf1") -> list[int]:
    return sorted({key[0] for key, batch in host.announced_to(name).items() if batch.family is Family.L2VPN_EVPN})


def test_the_import_targets_are_asked_for() -> None:
    host = Host()
    host.up(1, RTC)
    keys = [key for key, batch in host.announced_to("leaf1").items() if batch.family is RTC]
    assert sorted(map(format_membership, keys)) == ["65203 wants 65201:5001", "65203 wants 65201:5002"]
    host.reconfigure(CONFIG[: CONFIG.index('[[vrf]]\nname = "red"')])
    keys = [key for key, batch in host.announced_to("leaf1").items() if batch.family is RTC]
    assert list(map(format_membership, keys)) == ["65203 wants 65201:5001"]


def test_a_neighbor_that_can_ask_is_told_what_it_asks_for() -> None:
    host = Host()
    leaf1 = host.up(1, RTC)
    host.up(2)
    host.workload("10.64.1.5/32")
    assert told_types(host) == []
    assert told_types(host, "leaf2") == [2, 5]
    asks(host, leaf1, membership_key(65201, BLUE))
    assert {key[1:9][-1:] for key in host.announced_to("leaf1") if key[0] in (2, 5)} == {b"\xe9"}
    assert told_types(host) == [2, 5]
    asks(host, leaf1, withdrawn=(membership_key(65201, BLUE),))
    assert told_types(host) == []
    asks(host, leaf1, b"\0")
    assert told_types(host) == [2, 5]


def test_a_new_session_asks_anew() -> None:
    host = Host()
    leaf1 = host.up(1, RTC)
    asks(host, leaf1, b"\0")
    host.down(leaf1)
    host.told.clear()
    host.up(1, RTC)
    assert told_types(host) == []


def comes_back(host: Host, restart: GracefulRestart | None) -> tuple[Source, list[RouteBatch]]:
    """A new session that has the family; what it is sent of EVPN from here on."""
    source, sent, send = leaf(1), [], host.send

    def listen(to: Source, batch: RouteBatch) -> None:
        send(to, batch)
        if to is source and batch.family is EVPN:
            sent.append(batch)

    host.send = listen  # type: ignore[method-assign]
    host.evpn.neighbor_up(source, (EVPN, RTC))
    session = negotiated(families=(EVPN, RTC), graceful_restart=restart)
    host.rib.received.neighbor_up(source, session, host.config.neighbor[0])
    host.rib.received.await_memberships(source, until=30.0)
    host.turn()
    return source, sent


@pytest.mark.parametrize("ending", ["end of rib", "time"])
def test_a_neighbor_that_is_back_is_sent_no_withdrawal_before_it_has_asked(ending: str) -> None:
    """It may have kept what its former session was sent: a withdrawal would cost traffic."""
    host = Host()
    host.workload("10.64.1.5/32")
    source, sent = comes_back(host, GracefulRestart(restart_time_s=120))
    asks(host, source, membership_key(65201, BLUE))
    host.rib.dissemination.resume_due(29.9)
    host.turn()
    assert sent == []
    if ending == "time":
        host.rib.dissemination.resume_due(30.0)
    else:
        host.rib.received.end_of_rib_received(source, EVPN)
        host.turn()
        assert sent == []
        host.rib.received.end_of_rib_received(source, RTC)
    host.turn()
    assert sorted({key[0] for batch in sent for key in batch.announced}) == [2, 5]
    blue = {key for batch in sent for key in batch.announced}
    assert not blue & {key for batch in sent for key in batch.withdrawn}


def test_a_neighbor_that_need_not_send_end_of_rib_is_not_waited_for() -> None:
    host = Host()
    host.workload("10.64.1.5/32")
    source, sent = comes_back(host, None)
    assert all(not batch.announced for batch in sent)
    asks(host, source, membership_key(65201, BLUE))
    assert any(batch.announced for batch in sent)


def test_a_session_that_ends_while_it_is_waited_for_is_forgotten() -> None:
    host = Host()
    source, sent = comes_back(host, GracefulRestart(restart_time_s=120))
    host.down(source)
    host.rib.received.end_of_rib_received(source, RTC)
    host.rib.dissemination.resume_due(31.0)
    host.workload("10.64.1.5/32")
    host.turn()
    assert sent == []
