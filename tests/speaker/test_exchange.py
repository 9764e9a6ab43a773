"""The routes of a session: what is told together and what never is, what ends it, and what it asks to be sent again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.config.schema_sessions import SessionConfig
from bgpd.kernel.host import Host
from bgpd.message.exabgp_codec import RouteRefresh, encode_route_refresh
from bgpd.message.open import GracefulRestart, Negotiated
from bgpd.model.attributes import Attributes
from bgpd.model.iana import Family, Origin
from bgpd.model.kernel import Address, Link
from bgpd.model.next_hop import NextHop
from bgpd.model.prefix import parse_address
from bgpd.model.route_batch import Overlay, RouteBatch
from bgpd.model.source import Source, SourceKind
from bgpd.speaker.exchange import MANY, MOST_ROUTES, Exchange, RefusedUpdate, UnreadableUpdate, _pieces, add
from tests.logs import capture_logs
from tests.message.decoding import MANDATORY, attribute, negotiated, update

V4, V6 = Family.IPV4_UNICAST, Family.IPV6_UNICAST
FIRST, SECOND = Attributes.of(origin=Origin.IGP), Attributes.of(origin=Origin.EGP)
LEAF1, LEAF2 = NextHop(bytes((10, 0, 0, 1))), NextHop(bytes((10, 0, 0, 2)))


def keys(first: int, count: int) -> list[bytes]:
    return [bytes((32, 10, 0, number >> 8, number & 255)) for number in range(first, first + count)]


def told(*batches: RouteBatch) -> list[RouteBatch]:
    answers: list[RouteBatch] = []
    for batch in batches:
        add(batch, answers)
    return answers


def announced(first: int, count: int, attributes: Attributes = FIRST, next_hop: NextHop = LEAF1) -> RouteBatch:
    return RouteBatch(family=V4, announced=keys(first, count), attributes=attributes, next_hop=next_hop)


def withdrawn(first: int, count: int) -> RouteBatch:
    return RouteBatch(family=V4, withdrawn=keys(first, count))


def test_like_updates_are_one_batch() -> None:
    (batch,) = told(announced(0, 3), announced(3, 2), announced(5, 1))
    assert (batch.announced, batch.attributes, batch.next_hop) == (keys(0, 6), FIRST, LEAF1)
    (batch,) = told(withdrawn(0, 3), withdrawn(9, 2))
    assert batch == RouteBatch(family=V4, withdrawn=[*keys(0, 3), *keys(9, 2)])


def test_evpn_updates_with_labels_by_route_are_joined_with_all_labels() -> None:
    overlay = Overlay(bytes(10), ())

    def labelled(*routes: bytes) -> RouteBatch:
        labels = [b"\0\0" + route for route in routes]
        return RouteBatch(Family.L2VPN_EVPN, (), routes, FIRST, LEAF1, overlay, labels)

    (batch,) = told(labelled(b"1", b"2"), labelled(b"3", b"4"), labelled(b"5", b"6"))
    assert batch.announced == [b"1", b"2", b"3", b"4", b"5", b"6"]
    assert batch.labels == [b"\0\0" + route for route in batch.announced]
    alike = RouteBatch(Family.L2VPN_EVPN, (), (b"7",), FIRST, LEAF1, Overlay(bytes(10), (9,)))
    assert told(labelled(b"1", b"2"), alike, labelled(b"3", b"4")) == [
        labelled(b"1", b"2"),
        alike,
        labelled(b"3", b"4"),
    ]


def test_unlike_updates_stay_apart_and_in_order() -> None:
    batches = [
        announced(0, 1),
        announced(0, 1, SECOND),
        announced(0, 1, SECOND, LEAF2),
        withdrawn(0, 1),
        announced(0, 1),
        RouteBatch(family=V4, withdrawn=keys(0, 1), announced=keys(1, 1), attributes=FIRST, next_hop=LEAF1),
        announced(2, 1),
        RouteBatch(family=V6, withdrawn=keys(0, 1)),
        withdrawn(0, 1),
    ]
    assert told(*batches) == batches


steps = st.tuples(
    st.booleans(), st.integers(0, 5), st.integers(1, 3), st.sampled_from((FIRST, SECOND)), st.sampled_from((V4, V6))
)


@given(st.lists(steps))
def test_whoever_follows_the_batches_ends_with_the_same_routes(
    given_steps: list[tuple[bool, int, int, Attributes, Family]],
) -> None:
    batches = []
    for announces, first, count, attributes, family in given_steps:
        if announces:
            batches.append(
                RouteBatch(family=family, announced=keys(first, count), attributes=attributes, next_hop=LEAF1)
            )
        else:
            batches.append(RouteBatch(family=family, withdrawn=keys(first, count)))

    def routes(followed: list[RouteBatch]) -> dict[tuple[Family, bytes], Attributes | None]:
        found: dict[tuple[Family, bytes], Attributes | None] = {}
        for batch in followed:
            for key in batch.withdrawn:
                found.pop((batch.family, key), None)
            found.update(dict.fromkeys([(batch.family, key) for key in batch.announced], batch.attributes))
        return found

    assert routes(told(*batches)) == routes(batches)


class Session:
    """An exchange of IPv4 and IPv6 routes with leaf1, and all that it told, in order."""

    def __init__(self, host: Host | None = None, **fields: Any) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.read: list[tuple[int, list[bytes], list[RouteBatch]]] = []
        self.written: list[bytes] = []
        values = {"families": (V4, V6), "enhanced_route_refresh": True, **fields}
        self.exchange = Exchange(
            Source(name="leaf1", kind=SourceKind.EBGP, asn=65201, address=parse_address("10.0.1.2")),
            negotiated(**values),
            local=parse_address("10.0.1.1"),
            host=host or Host(lambda _: None),
            nlri_decoders={},
            routes=self,
            events=self,
            write=self.written.append,
        )

    def hear(self, *bodies: bytes) -> None:
        self.take_all(list(bodies))
        self.exchange.updates_done()

    def take_all(self, waiting: list[bytes]) -> None:
        while waiting:
            self.exchange.take(waiting)

    def routes_received(self, source: Source, batches: Sequence[RouteBatch]) -> None:
        self.told += [("routes", list(batch.announced), list(batch.withdrawn)) for batch in batches]

    is_complete = True

    def must_wait(self, source: Source) -> bool:
        return False

    def room_came(self, source: Source) -> None:
        self.told.append(("room",))

    def refresh_requested(self, source: Source, family: Family) -> None:
        self.told.append(("requested", family))

    def refresh_began(self, source: Source, family: Family) -> None:
        self.told.append(("began", family))

    def refresh_ended(self, source: Source, family: Family) -> None:
        self.told.append(("ended", family))

    def keeps_routes(self, name: str) -> bool:
        return False

    def forwarding_lost(self, name: str, reason: str) -> None: ...

    def all_end(self) -> None: ...

    def updates_read(self, source: Source, bodies: Sequence[bytes], batches: Sequence[RouteBatch]) -> None:
        self.read.append((len(self.told), list(bodies), [*batches]))

    def end_of_rib_received(self, source: Source, family: Family) -> None:
        self.told.append(("end of RIB", family))

    def session_established(self, source: Source, agreed: Negotiated, config: SessionConfig) -> None: ...

    def session_closed(self, source: Source, reason: str, *, is_graceful: bool = False) -> None: ...


NET, OTHER = b"\x18\x0a\x40\x01", b"\x18\x0a\x40\x02"
END_V6 = update(attribute(15, b"\0\2\1", 0x80))


def test_end_of_rib_is_told_after_the_routes_before_it_and_is_awaited_no_more() -> None:
    session = Session()
    assert session.exchange.awaited == [V4, V6]
    session.hear(update(MANDATORY, NET), update(), END_V6, update(withdrawn=NET))
    assert session.told == [
        ("routes", [NET], []),
        ("end of RIB", V4),
        ("end of RIB", V6),
        ("routes", [], [NET]),
    ]
    assert session.exchange.awaited == []
    session.hear(update())
    assert session.told[-1] == ("end of RIB", V4)
    assert session.exchange.end_of_rib == [V4, V6]


def test_updates_are_told_of_with_their_routes_before_these_are_passed_on() -> None:
    session = Session()
    bodies = [update(MANDATORY, NET), update(), update(withdrawn=NET)]
    session.hear(*bodies)
    assert [body for _, some, _ in session.read for body in some] == bodies
    assert [before for before, _, _ in session.read] == [0, 2]
    named = [[*batch.announced, *batch.withdrawn] for _, _, batches in session.read for batch in batches]
    assert named == [[NET], [NET]]


def test_update_that_ends_the_session_comes_after_the_routes_before_it() -> None:
    session = Session()
    with pytest.raises(RefusedUpdate, match="malformed UPDATE: ") as refused:
        session.hear(update(MANDATORY, NET), update(MANDATORY, b"\x21\x0a"))
    assert (refused.value.notification.code, refused.value.notification.subcode) == (3, 10)
    assert session.told == [("routes", [NET], [])]


@pytest.mark.parametrize("method", ["read_run", "decode"])
def test_update_that_the_decoder_cannot_cope_with_is_no_fault_of_the_neighbors(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """The routes before it are passed on, and those after it are left."""
    session = Session()
    unusual = attribute(99, b"?", 0xC0)
    bad = update(MANDATORY + unusual, OTHER)
    given_method = getattr(session.exchange._decoder, method)

    def fail(bodies: Any, *into: Any) -> Any:
        if bad in (bodies if isinstance(bodies, list) else [bodies]):
            raise ZeroDivisionError("a defect")
        return given_method(bodies, *into)

    monkeypatch.setattr(session.exchange._decoder, method, fail)
    last = update(MANDATORY, OTHER)
    waiting = [update(MANDATORY, NET), update(MANDATORY + unusual, NET), update(withdrawn=NET), bad, last, last]
    with pytest.raises(UnreadableUpdate, match="a defect"):
        session.take_all(waiting)
    assert waiting == [last, last]
    assert [one for one in session.told if one[0] == "routes"] == [
        ("routes", [NET], []),
        ("routes", [NET], []),
        ("routes", [], [NET]),
    ]


def test_a_run_is_one_call_and_an_update_that_ends_the_session_leaves_the_rest() -> None:
    session = Session()
    bad, last = update(MANDATORY, b"\x21\x0a"), update(MANDATORY, OTHER)
    waiting = [update(MANDATORY, NET), update(MANDATORY, OTHER), update(withdrawn=NET), bad, last]
    with pytest.raises(RefusedUpdate):
        session.take_all(waiting)
    assert waiting == [last]
    assert session.told == [("routes", [NET, OTHER], []), ("routes", [], [NET])]


def test_updates_that_are_not_usual_are_passed_on_some_at_a_time() -> None:
    session = Session()
    waiting = [update(MANDATORY + attribute(99, bytes((number,)), 0xC0), NET) for number in range(MANY + 3)]
    session.take_all(waiting)
    assert len(session.told) == MANY
    session.exchange.updates_done()
    assert len(session.told) == MANY + 3


def test_route_refresh_of_a_family_that_is_not_negotiated_is_ignored() -> None:
    session = Session(families=(V4,))
    for subtype in (0, 1, 2, 3, 255):
        session.exchange.refresh_received(RouteRefresh(2, 1, subtype), 0.0)
        session.exchange.refresh_received(RouteRefresh(99, 1, subtype), 0.0)
    assert session.told == []
    for subtype in (0, 1, 2, 3, 255):
        session.exchange.refresh_received(RouteRefresh(1, 1, subtype), 0.0)
    assert session.told == [("requested", V4), ("began", V4), ("ended", V4)]


def test_refresh_that_begins_before_end_of_rib_is_ignored_with_graceful_restart() -> None:
    """RFC 7313 section 4: else what the neighbor has yet to say, and kept over its restart, counted as gone."""
    session = Session(families=(V4, V6), graceful_restart=GracefulRestart())
    with capture_logs() as logs:
        for _ in range(3):
            session.exchange.refresh_received(RouteRefresh(1, 1, 1), 0.0)
    assert session.told == []
    assert [line["event"] for line in logs] == ["session.refresh_ignored"]
    session.hear(update())
    session.exchange.refresh_received(RouteRefresh(2, 1, 1), 0.0)
    session.exchange.refresh_received(RouteRefresh(1, 1, 1), 0.0)
    assert session.told == [("end of RIB", V4), ("began", V4)]


def test_an_end_is_told_only_where_the_beginning_was() -> None:
    session = Session(families=(V4, V6))
    session.exchange.send_refresh(V4, 1)
    session.exchange.refresh_answered(V4, 0.0)
    session.exchange.refresh_answered(V4, 0.0)
    session.exchange.refresh_answered(V6, 0.0)
    assert [message[-2] for message in session.written] == [1, 2]


def test_refresh_that_is_asked_for_again_too_soon_is_answered_later_and_once() -> None:
    session = Session()
    for _ in range(3):
        session.exchange.refresh_wanted(V4, 0.0)
    assert session.told == [("requested", V4)]
    session.exchange.refresh_answered(V4, 0.0)
    when = session.exchange.deadline()
    assert when is not None
    session.exchange.tick(when - 0.001)
    assert session.told == [("requested", V4)]
    session.exchange.tick(when)
    assert session.told == [("requested", V4)] * 2


@pytest.mark.parametrize(("enhanced", "markers"), [(True, [1, 2]), (False, [])])
def test_markers_go_only_to_who_knows_them(enhanced: bool, markers: list[int]) -> None:
    session = Session(enhanced_route_refresh=enhanced, families=(V4,))
    session.exchange.send_refresh(V4, 1)
    session.exchange.send_refresh(V6, 1)
    session.exchange.refresh_answered(V4, 0.0)
    assert [message[-2] for message in session.written] == markers


def test_an_update_of_many_batches_is_passed_on_some_at_a_time() -> None:
    session = Session()
    batches: Sequence[RouteBatch] = [
        RouteBatch(family=V4, announced=keys(number, 1), attributes=Attributes.of(), next_hop=LEAF1)
        for number in range(MANY + 2)
    ]
    session.exchange._backlog.extend(batches)
    assert session.exchange.is_behind
    session.exchange.catch_up()
    assert session.exchange.is_behind
    session.exchange.catch_up()
    assert not session.exchange.is_behind
    session.exchange.updates_done()
    assert [told[1] for told in session.told] == [list(batch.announced) for batch in batches]


@pytest.mark.parametrize("unusual", [b"", attribute(98, b"x", 0x80)], ids=["usual", "decoded"])
def test_an_update_of_very_many_routes_is_passed_on_some_at_a_time_and_before_what_follows(unusual: bytes) -> None:
    session = Session()
    many = keys(0, 3 * MOST_ROUTES)
    end_of_rib = update()
    waiting = [update(MANDATORY, NET), update(MANDATORY + unusual, b"".join(many)), end_of_rib, update(withdrawn=NET)]
    while waiting and not session.exchange.is_behind:
        session.exchange.take(waiting)
    assert waiting[-2:] == [end_of_rib, update(withdrawn=NET)]
    session.exchange.updates_done()
    while session.exchange.is_behind:
        before = len(session.told)
        session.exchange.catch_up()
        assert sum(len(one[1]) + len(one[2]) for one in session.told[before:]) <= MOST_ROUTES
    assert [key for told in session.told for key in told[1]] == [NET, *many]
    session.hear(*waiting)
    assert session.told[-2:] == [("end of RIB", V4), ("routes", [], [NET])]


def test_labels_stay_beside_their_routes_where_very_many_are_passed_on_some_at_a_time() -> None:
    many = [number.to_bytes(4, "big") for number in range(2 * MOST_ROUTES + 7)]
    overlay = Overlay(bytes(10), ())
    batch = RouteBatch(Family.L2VPN_EVPN, (b"gone",), many, FIRST, LEAF1, overlay, [key[-3:] for key in many])
    pieces = _pieces(batch)
    assert [key for one in pieces for key in (*one.withdrawn, *one.announced)] == [b"gone", *many]
    for one in pieces:
        assert len(one.announced) <= MOST_ROUTES
        assert [key[-3:] for key in one.announced] == list(one.labels or ())


@pytest.mark.parametrize("withdrawn_too", [False, True])
def test_updates_that_are_many_together_are_passed_on_in_their_order(withdrawn_too: bool) -> None:
    """A prefix that is in both sections of an UPDATE is announced (RFC 4271 section 4.3)."""
    session = Session()
    many = b"".join(keys(0, MOST_ROUTES + 2))
    waiting = [update(MANDATORY, many, many if withdrawn_too else b""), update(withdrawn=many), update(MANDATORY, NET)]
    found: dict[bytes, bool] = {}
    while waiting or session.exchange.is_behind:
        if session.exchange.is_behind:
            session.exchange.catch_up()
        else:
            session.exchange.take(waiting)
    session.exchange.updates_done()
    for _, announced_keys, withdrawn_keys in session.told:
        assert len(announced_keys) + len(withdrawn_keys) <= 2 * MOST_ROUTES
        found.update(dict.fromkeys(withdrawn_keys, False))
        found.update(dict.fromkeys(announced_keys, True))
    assert found == dict.fromkeys(keys(0, MOST_ROUTES + 2), False) | {NET: True}


WITHDRAWAL = RouteBatch(family=V4, withdrawn=[NET])
ANNOUNCEMENT = RouteBatch(family=V4, announced=[NET], attributes=FIRST)


@pytest.mark.parametrize("batch", [WITHDRAWAL, ANNOUNCEMENT])
@pytest.mark.parametrize("error", [ValueError("no form for it"), MemoryError()])
def test_routes_that_cannot_be_encoded_are_withdrawn_and_nothing_else_is_hidden(
    monkeypatch: pytest.MonkeyPatch, batch: RouteBatch, error: Exception
) -> None:
    session = Session()
    encode, failed = session.exchange._encoder.encode, []

    def fail_once(one: RouteBatch) -> list[bytes]:
        if not failed:
            failed.append(one)
            raise error
        return encode(one)

    monkeypatch.setattr(session.exchange._encoder, "encode", fail_once)
    if batch.withdrawn or isinstance(error, MemoryError):
        with pytest.raises(type(error)):
            session.exchange.send(batch)
        assert session.written == []
    else:
        session.exchange.send(batch)
        assert session.written == encode(RouteBatch(family=V4, withdrawn=[NET]))


def test_routes_by_an_address_of_this_host_are_asked_for_again_once_it_has_moved() -> None:
    """A VIP, say: who announces them does so still, and the other host is their next hop."""
    host = Host(lambda _: None)
    host.link(Link(index=2, name="eth0", up=True))
    address = Address(index=2, packed=parse_address("10.0.1.2"), prefix_length=24)
    host.address(address)
    session = Session(host, route_refresh=True)
    session.hear(update(MANDATORY, NET))
    assert session.told == [("routes", [], [NET])]
    session.exchange.addresses_changed("eth0")
    assert session.written == []
    host.address(address, gone=True)
    for _ in range(2):
        session.exchange.addresses_changed("eth0")
    assert session.written == [encode_route_refresh(1, 1)]


def test_other_addresses_of_the_link_are_told_by_sending_again_what_has_another_next_hop() -> None:
    session = Session()
    session.exchange.addresses_changed("eth9")
    assert session.told == []
    assert session.exchange.without_next_hop == (V6,)
