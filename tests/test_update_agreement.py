"""UPDATEs worked off the short way leave what the long way leaves: whole stacks side by side, from bytes to the kernel.

The short way is plain_updates.py and small_batches.py (docs/decisions/0020); the long way is update_decoder.py and
loc_rib.py, one UPDATE at a time. Both get the same stream, cut anywhere.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpd.config.schema import Config, RouterConfig
from bgpd.config.schema_policies import MatchConfig, PolicyConfig, RuleConfig, SetConfig
from bgpd.config.schema_sessions import NeighborConfig, SessionConfig
from bgpd.kernel.host import Host
from bgpd.message.open import Negotiated, Open
from bgpd.model.attributes import Attributes
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHops
from bgpd.model.path import Path
from bgpd.model.route_batch import RouteBatch
from bgpd.model.source import Source, SourceKind
from bgpd.rib import received
from bgpd.rib.loc_rib import LocRib
from bgpd.speaker.connection import Connection, ConnectionFailed, State, UpdateReceived
from bgpd.speaker.exchange import Exchange, RefusedUpdate
from tests.logs import capture_logs
from tests.message.decoding import EVPN, attribute, negotiated, reach, unreach, update
from tests.rib.build import LOCAL, LOCAL_ASN, Recorder, attributes, drain, hop
from tests.rib.test_interned_paths import check

V4, V6, L2 = Family.IPV4_UNICAST, Family.IPV6_UNICAST, Family.L2VPN_EVPN
Enter: TypeAlias = Callable[[LocRib, Any, Sequence[RouteBatch], int], int]
ENTER_FEW: Enter = received.enter_few
ENTER_FEW_EVPN = received.enter_few_evpn
MESSAGE = b"\xff" * 16
LEAF_ASN = 65201
OWN_ADDRESS = bytes((10, 0, 1, 1))
OF_RUNS = {"prefix_limit.near"}
"""What is looked at after a run, and not after each UPDATE."""


def none_is_usual(bodies: list[bytes], into: list[RouteBatch]) -> int:
    return 0


def none_are_few(table: LocRib, routes: object, batches: Sequence[RouteBatch], at: int, *heard: object) -> int:
    return at


class Surroundings(Recorder):
    """What is around the RIB, by family."""

    def __init__(self, config: Config) -> None:
        self.kernel: dict[tuple[Family, bytes], NextHops] = {}
        self.waiting: set[tuple[Family, bytes]] = set()
        self.advertised: dict[tuple[str, Family, bytes], object] = {}
        super().__init__(config)

    def confirm(self, vrf: str, family: Family, changes: dict[bytes, NextHops | None]) -> dict[bytes, NextHops | None]:
        return changes

    def update_learned(
        self, vrf: str, family: Family, changes: dict[bytes, NextHops | None], *, cause: str = ""
    ) -> None:
        for key, next_hops in changes.items():
            if next_hops is None:
                self.kernel.pop((family, key), None)
                self.waiting.discard((family, key))
            else:
                self.kernel[family, key] = next_hops
                self.waiting.add((family, key))

    def send(self, source: Source, batch: RouteBatch) -> None:
        for key in batch.withdrawn:
            self.advertised.pop((source.name, batch.family, key), None)
        for key in batch.announced:
            assert batch.attributes is not None
            self.advertised[source.name, batch.family, key] = said(batch.attributes), batch.next_hop, batch.overlay

    def settle(self) -> None:
        """The end of a turn: the kernel has all that it was told, and the neighbors have heard of it."""
        self.turn()
        while self.waiting:
            family, key = self.waiting.pop()
            self.rib.fib_acknowledged("", family, [key])
        self.turn()


class Peer:
    """One established session of a stack: bytes in, routes to the RIB."""

    def __init__(self, stack: Stack, config: NeighborConfig, agreed: Negotiated, number: int) -> None:
        kind = SourceKind.IBGP if agreed.is_ibgp else SourceKind.EBGP
        address = bytes((10, 0, number, 2))
        self.source = Source(
            name=config.name, kind=kind, asn=agreed.peer_asn, router_id=agreed.peer_router_id, address=address
        )
        self._stack = stack
        self.ended = ""
        self._connection = Connection(
            local=Open(asn=LOCAL_ASN, hold_time_s=90, router_id=b"\1\1\1\1", extended_message=True),
            expected_asn=agreed.peer_asn,
            incoming=False,
            now=0.0,
            random=lambda: 0.5,
        )
        self._connection.state, self._connection.negotiated = State.ESTABLISHED, agreed
        self.exchange = Exchange(
            self.source,
            agreed,
            local=OWN_ADDRESS,
            host=Host(lambda _: None),
            nlri_decoders=EVPN,
            routes=stack.recorder.rib.received,
            events=self,
            write=lambda _: None,
            accept_as_sets=config.accept_as_sets,
        )
        # The host has no addresses here; its own is one of the next hops that are tried.
        self.exchange._decoder._next_hops._local_addresses = {OWN_ADDRESS}
        if not stack.is_short:
            self.exchange._decoder.read_run = none_is_usual  # type: ignore[method-assign]
        stack.recorder.rib.received.neighbor_up(self.source, agreed, config)

    def feed(self, data: bytes, most: int) -> None:
        """Work off what has come, in runs of `most` UPDATEs, as the driver does."""
        if self.ended:
            return
        self._connection.feed(data)
        try:
            while self._work(most):
                pass
        except RefusedUpdate as refused:
            self._end(f"{refused.notification} {refused.reason}")

    def _work(self, most: int) -> bool:
        while self.exchange.is_behind:
            self.exchange.catch_up()
        bodies = self._connection.updates(0.0, most=most, most_bytes=12 * 1024)
        if not bodies:
            event = self._connection.next_event(0.0)
            assert not isinstance(event, UpdateReceived)
            if isinstance(event, ConnectionFailed):
                self._end(event.reason)
            return event is not None
        while bodies:
            try:
                self.exchange.take(bodies)
            except RefusedUpdate:
                self._connection.give_back(bodies)
                raise
            if bodies and self.exchange.is_behind:
                self._connection.give_back(bodies)
                break
        self.exchange.updates_done()
        return True

    def _end(self, reason: str) -> None:
        self.ended = reason
        drain(self._stack.recorder.rib.received.neighbor_down(self.source))

    def session_established(self, source: Source, agreed: Negotiated, config: SessionConfig) -> None: ...

    def session_closed(self, source: Source, reason: str) -> None: ...

    def path_failed(self, source: Source) -> None: ...

    def refresh_ended(self, source: Source, family: Family) -> None: ...

    def updates_read(self, source: Source, bodies: Sequence[bytes], batches: Sequence[RouteBatch]) -> None: ...

    def end_of_rib_received(self, source: Source, family: Family) -> None:
        self._stack.events.append((source.name, "end of RIB", family))

    def said(self) -> object:
        """What is known of the session itself."""
        counts = self._connection.messages_received, self.exchange.martians, self.exchange.end_of_rib
        return self.ended, counts, self.exchange._remembered


class Stack:
    """Sessions and RIB, and what came of what they were told."""

    def __init__(self, config: Config, sessions: Sequence[Negotiated], *, is_short: bool) -> None:
        self.is_short = is_short
        self.events: list[tuple[object, ...]] = []
        self.recorder = Surroundings(config)
        self.recorder.rib.announce_local(LOCAL, V4, [b"\x20\x0a\x01\x02\x03"], attributes())
        self.peers = [
            Peer(self, one, agreed, number) for number, (one, agreed) in enumerate(zip(config.neighbor, sessions), 1)
        ]
        self.recorder.turn()

    def use(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(received, "enter_few", ENTER_FEW if self.is_short else none_are_few)
        patch.setattr(received, "enter_few_evpn", ENTER_FEW_EVPN if self.is_short else none_are_few)

    def state(self) -> dict[str, object]:
        """All that must not depend on the way."""
        recorder, rib = self.recorder, self.recorder.rib
        found: dict[str, object] = {}
        for family in (V4, V6, L2):
            table = rib.table("", family)
            check(table)
            for key, entry in table.routes.items():
                candidates = [(path_said(path), table.labels.overlay(path, key)) for path in entry.candidates]
                chosen = [path.source.name for path in entry.multipath]
                found[f"{family} {key.hex()}"] = candidates, chosen, entry.next_hops
            for peer in self.peers:
                state = rib.received._states.get(peer.source)
                if state is not None:
                    interned = state.adj_rib_in.interned(family)
                    beyond = state.discarded.count(family)
                    counts = table.received.get(peer.source, 0), table.rejected.get(peer.source, 0)
                    kept = interned.next_hops, interned.bytes_kept, beyond
                    found[f"{family} of {peer.source.name}"] = *counts, *kept
            found[f"{family} labels"] = len(table.labels)
        found["kernel"], found["advertised"] = recorder.kernel, recorder.advertised
        found["evpn"] = {
            source.name: {key: path_said(path) for key, path in followed.items()}
            for source, followed in recorder.followed.items()
        }
        found["resets"], found["events"] = recorder.resets, self.events
        for peer in self.peers:
            found[peer.source.name] = peer.said()
        return found


def said(given_attributes: Attributes) -> object:
    return given_attributes.fields, given_attributes.rank, given_attributes.is_simple


def path_said(path: Path) -> object:
    source = path.source.name
    attributes = said(path.attributes), said(path.received)
    return source, *attributes, path.next_hop, path.heard_at, path.rejected, path.is_usable


# What leaves say


def as_path(*segments: tuple[int, Sequence[int]], wide: bool) -> bytes:
    layout = "!I" if wide else "!H"
    return b"".join(
        bytes((kind, len(asns))) + b"".join(struct.pack(layout, asn if wide else min(asn, 23456)) for asn in asns)
        for kind, asns in segments
    )


SEGMENTS = [
    ((2, (LEAF_ASN,)),),
    ((2, (LEAF_ASN, 7)),),
    ((2, (LEAF_ASN, 7, 7, 65301)),),
    ((2, (LEAF_ASN, LOCAL_ASN)),),
    ((2, (LEAF_ASN, 0)),),
    ((2, (4_200_000_000, 7)),),
    ((2, (LEAF_ASN, 4_200_000_000)),),
    ((2, (LEAF_ASN,)), (1, (7, 8))),
    ((1, (LEAF_ASN,)),),
    ((3, (65100,)), (2, (LEAF_ASN,))),
    ((2, (LEAF_ASN,)), (2, (7,))),
    ((2, tuple([LEAF_ASN] * 200)),),
    (),
]
USUAL_PATHS = SEGMENTS[:3]
OTHERS = [
    (4, struct.pack("!I", 0), 0x80),
    (4, struct.pack("!I", 7), 0x80),
    (5, struct.pack("!I", 100), 0x40),
    (5, struct.pack("!I", 300), 0x40),
    (6, b"", 0x40),
    (7, struct.pack("!I", 65201) + b"\1\2\3\4", 0xC0),
    (7, struct.pack("!H", 65201) + b"\1\2\3\4", 0xC0),
    (7, struct.pack("!I", 0) + b"\1\2\3\4", 0xC0),
    (8, b"\xfd\xe8\0\1", 0xC0),
    (8, b"\xfd\xe8\0\1\xff\xff\xff\x01", 0xE0),
    (8, b"\xff\xff\0\0", 0xC0),
    (8, b"\xfd\xe8\0\1" * 70, 0xC0),
    (8, b"", 0xC0),
    (9, b"\2\2\2\2", 0x80),
    (9, b"\1\1\1\1", 0x80),
    (10, b"\1\1\1\1" * 2, 0x80),
    (10, b"\3\3\3\3", 0x80),
    (16, b"\x40\4\xfe\xb1" + struct.pack("!f", 1.25e8), 0xC0),
    (16, b"\0\2\xfd\xe8\0\0\0\1", 0xC0),
    (17, struct.pack("!BBII", 2, 2, 65201, 4_200_000_000), 0xC0),
    (18, struct.pack("!I", 4_200_000_000) + b"\1\2\3\4", 0xC0),
    (26, b"\1\0\x0b" + bytes(8), 0x80),
    (32, bytes(range(24)), 0xC0),
    (32, bytes(24), 0xC0),
    (35, struct.pack("!I", 7), 0xC0),
    (99, b"abc", 0xC0),
    (99, b"abc", 0xE0),
    (99, b"", 0x80),
    (99, b"abc", 0x40),
]
V4_HOPS = [bytes((10, 0, 1, 2)), bytes((10, 0, 1, 9)), bytes((10, 0, 2, 2)), OWN_ADDRESS, bytes(4)]
V6_HOPS = [bytes.fromhex("20010db8" + "00" * 11 + one) for one in ("01", "02")]
V6_HOPS.append(V6_HOPS[0] + bytes.fromhex("fe80" + "00" * 13 + "02"))
V4_NETS = [
    b"\0",
    b"\x08\x0a",
    b"\x18\x0a\1\2",
    b"\x18\x0a\1\3",
    b"\x20\x0a\1\2\3",
    b"\x20\x0a\1\2\4",
    b"\x14\x0a\1\x20",
]
ODD_V4_NETS = [b"\x14\x0a\1\x2f", b"\x08\x7f", b"\x20\xe0\0\0\1"]
V6_NETS = [b"\0", b"\x40\x20\1\x0d\xb8" + bytes(4), b"\x80\x20\1\x0d\xb8" + bytes(11) + b"\7"]
RD = bytes.fromhex("00010aff010103e9")


def mac_ip(number: int, *labels: int, esi: int = 0) -> bytes:
    tail = b"".join(label.to_bytes(3, "big") for label in labels)
    value = RD + bytes((esi,)) + bytes(9) + bytes(4) + b"\x30\2\0\0\0\0" + bytes((number,)) + b"\x20\x0a\x40\0"
    value += bytes((number,)) + tail
    return bytes((2, len(value))) + value


def ip_prefix(number: int, label: int, gateway: int = 0) -> bytes:
    value = RD + bytes(10) + bytes(4) + b"\x20\x0a\x41\0" + bytes((number,))
    value += bytes((10, 0, 0, gateway)) if gateway else bytes(4)
    return bytes((5, 34)) + value + label.to_bytes(3, "big")


EVPN_ROUTES = [
    *(mac_ip(number, label) for number in (1, 2, 3) for label in (10, 11, 0)),
    *(mac_ip(number, 10, 99) for number in (1, 2)),
    mac_ip(3, 10, esi=1),
    *(ip_prefix(number, label) for number in (1, 2, 3) for label in (20, 21)),
    *(ip_prefix(number, label, 7) for number in (1, 2) for label in (0, 21)),
    b"\3\x11" + RD + bytes(4) + b"\x20\x0a\0\0\1",
]


def one_attribute(kind: int, value: bytes, flags: int, *, is_long: bool) -> bytes:
    if is_long or len(value) > 255:
        return struct.pack("!BBH", flags | 0x10, kind, len(value)) + value
    return attribute(kind, value, flags)


def many_nets(first: int, count: int, step: int = 1) -> bytes:
    """Host routes; with a large `step` they are all over the table."""
    return b"".join(struct.pack("!BI", 32, 0x0A400000 + number * step) for number in range(first, first + count))


nets = st.one_of(
    st.sampled_from(V4_NETS),
    st.lists(st.sampled_from(V4_NETS), min_size=1, max_size=5).map(b"".join),
    st.lists(st.sampled_from([*V4_NETS, *ODD_V4_NETS]), min_size=1, max_size=3).map(b"".join),
    st.builds(many_nets, st.integers(0, 30), st.sampled_from([1, 2, 23, 24, 25, 60]), st.sampled_from([1, 1, 0x533])),
)
v6_nets = st.lists(st.sampled_from(V6_NETS), min_size=1, max_size=4).map(b"".join)
evpn_nets = st.lists(st.sampled_from(EVPN_ROUTES), min_size=1, max_size=5).map(b"".join)


@st.composite
def blocks(draw: st.DrawFn, *, wide: bool, with_next_hop: bool) -> list[bytes]:
    """The attributes of an UPDATE that announces, one by one, as a leaf may send them; mostly usual."""
    is_usual = draw(st.booleans())
    segments = draw(st.sampled_from(USUAL_PATHS if is_usual else SEGMENTS))
    parts = [(1, bytes((draw(st.integers(0, 2)),)), 0x40), (2, as_path(*segments, wide=wide), 0x40)]
    if with_next_hop:
        parts.append((3, draw(st.sampled_from(V4_HOPS[:3] if is_usual else V4_HOPS)), 0x40))
    parts += draw(st.lists(st.sampled_from(OTHERS), max_size=2 if is_usual else 5))
    long = draw(st.sampled_from([(), (2,), (1, 2, 3, 8, 99)]))
    found = [one_attribute(kind, value, flags, is_long=kind in long) for kind, value, flags in parts]
    match draw(st.sampled_from(["", "", "", "twice", "other order", "one less"])):
        case "twice":
            found.append(draw(st.sampled_from(found)))
        case "other order":
            found = draw(st.permutations(found))
        case "one less":
            del found[draw(st.integers(0, len(found) - 1))]
    return found


@st.composite
def announcements(draw: st.DrawFn, wide: bool) -> bytes:
    where = draw(st.sampled_from(["classic", "classic", "classic", "IPv4", "IPv6", "IPv6", "EVPN", "EVPN", "both"]))
    nlri = draw(nets) if where in ("classic", "both") else b""
    found = draw(blocks(wide=wide, with_next_hop=bool(nlri) or draw(st.booleans())))
    multiprotocol = {
        "IPv4": lambda: reach(1, 1, draw(st.sampled_from([*V4_HOPS, V6_HOPS[0]])), draw(nets)),
        "IPv6": lambda: reach(2, 1, draw(st.sampled_from(V6_HOPS)), draw(v6_nets)),
        "both": lambda: reach(2, 1, draw(st.sampled_from(V6_HOPS)), draw(v6_nets)),
        "EVPN": lambda: reach(25, 70, draw(st.sampled_from(V4_HOPS)), draw(evpn_nets)),
    }
    if where in multiprotocol:
        at = draw(st.sampled_from([0, 0, 0, len(found)]))
        found.insert(at, multiprotocol[where]())
    if draw(st.integers(0, 5)) == 0:
        found.append(draw(withdrawn_fields))
    gone = draw(nets) if draw(st.integers(0, 5)) == 0 else b""
    return update(b"".join(found), nlri, gone)


withdrawn_fields = st.one_of(
    v6_nets.map(lambda field: unreach(2, 1, field)),
    nets.map(lambda field: unreach(1, 1, field)),
    evpn_nets.map(lambda field: unreach(25, 70, field)),
    st.sampled_from([(1, 1), (2, 1), (25, 70)]).map(lambda family: unreach(*family, b"")),
)
withdrawals = st.one_of(
    nets.map(lambda field: update(withdrawn=field)),
    withdrawn_fields.map(update),
    st.builds(lambda field, gone: update(field, withdrawn=gone), withdrawn_fields, nets),
    st.just(update()),
)


def messages(wide: bool) -> st.SearchStrategy[bytes]:
    bodies = st.one_of(announcements(wide), announcements(wide), announcements(wide), withdrawals)
    framed = bodies.map(lambda body: MESSAGE + struct.pack("!HB", 19 + len(body), 2) + body)
    return st.one_of(*[framed] * 12, st.just(MESSAGE + b"\0\x13\4"))


IMPORTS = ("all", "all", "all", "none", "default-only", "by-prefix", "tagged")
POLICIES = {
    "by-prefix": PolicyConfig(
        rules=(
            RuleConfig(match=MatchConfig(prefix=("10.1.0.0/16 le 32",)), set=SetConfig(local_pref=200)),
            RuleConfig(match=MatchConfig(prefix=("10.64.0.0/16 le 32",)), action="reject"),
            RuleConfig(),
        )
    ),
    "tagged": PolicyConfig(
        rules=(
            RuleConfig(match=MatchConfig(community=("65000:1",)), set=SetConfig(local_pref=50), action="next"),
            RuleConfig(set=SetConfig(add_community=("65203:7",))),
        )
    ),
}


@st.composite
def sessions(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of what was negotiated, and those of the neighbor's section."""
    agreed = {
        "ibgp": draw(st.sampled_from([False, False, True])),
        "four_octet_as": draw(st.sampled_from([True, True, True, False])),
        "extended_next_hop": draw(st.booleans()),
        "families": draw(st.sampled_from([(V4, V6, L2), (V4, V6, L2), (V4,), (V6, L2)])),
    }
    limits: list[dict[str, Any]] = [
        {},
        {},
        {"max_prefixes": 4, "max_prefixes_action": "discard"},
        {"max_prefixes": 60, "max_prefixes_action": "discard"},
    ]
    config = {
        "import_": draw(st.sampled_from(IMPORTS)),
        "export": draw(st.sampled_from(["local", "all"])),
        "accept_as_sets": draw(st.booleans()),
        "allow_own_as": draw(st.integers(0, 1)),
        **draw(st.sampled_from(limits)),
    }
    return agreed, config


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Any], list[tuple[int, bytes, int, int]]]:
    """Two sessions, and what they send: (session, bytes, UPDATEs of a run, seconds that pass), anywhere cut."""
    both = [draw(sessions()), draw(sessions())]
    feeds: list[tuple[int, bytes, int, int]] = []
    for _ in range(draw(st.integers(1, 4))):
        number = draw(st.integers(0, 1))
        data = b"".join(draw(st.lists(messages(both[number][0]["four_octet_as"]), min_size=1, max_size=6)))
        cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=3)))
        for start, end in zip([0, *cuts], [*cuts, len(data)]):
            most, pause = draw(st.sampled_from([1, 2, 3, 128])), draw(st.sampled_from([0, 0, 4, 11]))
            feeds.append((number, data[start:end], most, pause))
    return both, feeds


def assert_alike(both: Sequence[Any], feeds: Sequence[tuple[int, bytes, int, int]]) -> dict[str, object]:
    """Both ways leave the same; what that is."""
    neighbors = tuple(
        NeighborConfig(name=f"leaf{number}", address=f"10.0.{number}.2", asn=LEAF_ASN, **config)
        for number, (_, config) in enumerate(both, 1)
    )
    router = RouterConfig(asn=LOCAL_ASN, router_id="1.1.1.1")
    config = Config(router=router, neighbor=neighbors, policy=POLICIES)
    agreed = [negotiated(extended_message=True, **fields) for fields, _ in both]
    with capture_logs():
        stacks = [Stack(config, agreed, is_short=is_short) for is_short in (True, False)]
    for stack in stacks:
        stack.recorder.resolved[hop("10.0.1.9")] = "no route"
    logs: list[list[Any]] = [[], []]
    for number, data, most, pause in feeds:
        states = []
        for stack, log in zip(stacks, logs):
            with pytest.MonkeyPatch.context() as patch, capture_logs() as entries:
                stack.use(patch)
                stack.recorder.now += pause
                stack.peers[number].feed(data, most if stack.is_short else 1)
                stack.recorder.settle()
                states.append(stack.state())
            log += [entry for entry in entries if entry["event"] not in OF_RUNS]
        short, long = states
        different = {what: (short[what], long.get(what)) for what in short if short[what] != long.get(what)}
        assert not different, different
        assert short.keys() == long.keys()
        assert sorted(map(repr, logs[0])) == sorted(map(repr, logs[1])), logs
    return short


@settings(max_examples=100, deadline=None)
@given(histories())
def test_both_ways_leave_the_same(history: tuple[list[Any], list[tuple[int, bytes, int, int]]]) -> None:
    assert_alike(*history)


@pytest.mark.parametrize("cut", [0, 1, 18, 19, 4000, 16_500])
def test_both_ways_leave_the_same_of_very_many_routes_in_one_update(cut: int) -> None:
    """More than are passed on at once, between UPDATEs of a few of the same routes, and with the End-of-RIB after."""
    usual = as_path((2, (LEAF_ASN, 7)), wide=True)
    block = attribute(1, b"\0", 0x40) + attribute(2, usual, 0x40)
    by, other = (block + attribute(3, address, 0x40) for address in (V4_HOPS[0], V4_HOPS[2]))
    bodies = [
        update(other, many_nets(5, 20)),
        update(by, many_nets(0, 4096), many_nets(4090, 30)),
        update(withdrawn=many_nets(1000, 3)),
        update(other, many_nets(1001, 60)),
        update(withdrawn=many_nets(1020, 1200)),
        update(unreach(2, 1, b"")),
        update(),
        update(by, many_nets(1500, 2)),
        update(by, many_nets(0, 700, 0x533)),
        update(other, many_nets(300, 1001, 0x533)),
        update(withdrawn=many_nets(250, 100, 0x533)),
    ]
    data = b"".join(MESSAGE + struct.pack("!HB", 19 + len(body), 2) + body for body in bodies)
    for config, most in (({}, 4097), ({"max_prefixes": 2000, "max_prefixes_action": "discard"}, 2000)):
        both = [({"ibgp": False}, {"import_": "all", "export": "all", **config})] * 2
        feeds = [(number, part, 128, 0) for number in (0, 1) for part in (data[:cut], data[cut:])]
        assert 0 < len(assert_alike(both, feeds)["kernel"]) <= most  # type: ignore[arg-type]
