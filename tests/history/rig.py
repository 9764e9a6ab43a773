"""A RIB that is recorded, driven by raw UPDATEs, for the tests of the history."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec

from bgpd.config.load import parse_config
from bgpd.config.schema import Config
from bgpd.config.schema_sessions import NeighborConfig
from bgpd.history.base import base
from bgpd.history.recorder import History
from bgpd.history.segments import DIRECTORY
from bgpd.history.wanted import These
from bgpd.message.open import GracefulRestart, LongLived
from bgpd.message.update_decoder import UpdateDecoder
from bgpd.model.attributes import Attributes
from bgpd.model.iana import Role
from bgpd.model.next_hop import NextHop
from bgpd.model.path import Path as Way
from bgpd.model.prefix import covering_keys, parse_address
from bgpd.model.route_batch import Overlay, RouteBatch
from bgpd.model.source import Source, SourceKind
from bgpd.model.views.routes import RouteView
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.saved import SavedRib
from bgpd.rib.views import longest_match, route_view
from tests.daemon.wire_peer import END_OF_RIB, attribute, update, withdrawal
from tests.message.decoding import negotiated
from tests.rib.build import LOCAL, V4, Recorder, drain, key

ADDRESS = parse_address("10.1.2.3")
VRF = "red"
PREFIXES = ("0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32", "10.9.0.0/16", "192.0.2.0/24")
HOPS = ("10.0.1.2", "10.0.2.2", "10.0.9.9")
TEXT = """
[router]
asn = 65203
router_id = "10.255.1.1"
[[neighbor]]
name = "leaf1"
asn = 65201
address = "10.0.1.2"
import = "p"
graceful_restart = { long_lived_s = 600 }
[[neighbor]]
name = "leaf2"
asn = 65201
address = "10.0.2.2"
import = "all"
graceful_restart = { long_lived_s = 600 }
[[policy.p.rules]]
match = { prefix = ["10.1.0.0/16 le 24"] }
action = "accept"
set = { local_pref = %d }
[[policy.p.rules]]
action = "accept"
"""
NUMBERS = {"leaf1": 1, "leaf2": 2}
RESTART = GracefulRestart(notification=True, restart_time_s=120, families=((1, 1, True),))
ROLES = {"leaf1": Role.CUSTOMER, "leaf2": Role.PROVIDER}
AGREED = {
    name: negotiated(
        families=(V4,),
        graceful_restart=RESTART,
        hard_reset=True,
        long_lived=(LongLived(1, 1, True, 600),),
        role=role,
    )
    for name, role in ROLES.items()
}


def config(local_pref: int = 100) -> Config:
    return parse_config(TEXT % local_pref, "x.toml")[0]


def message(random: random.Random) -> bytes:
    """An UPDATE that announces or withdraws some of the prefixes."""
    chosen = tuple(random.sample(PREFIXES, random.randint(1, 3)))
    if random.random() < 0.3:
        return withdrawal(*chosen)
    extra = attribute(0x80, 4, random.randint(0, 3).to_bytes(4, "big")) if random.random() < 0.5 else b""
    if random.random() < 0.1:
        extra += attribute(0xC0, 8, b"\xff\xff\x00\x00")
    if random.random() < 0.1:
        extra += attribute(0xC0, 35, (64999).to_bytes(4, "big"))
    asn = random.choice((65201, 65203, 65300))
    path = attribute(0x40, 2, bytes((2, 2)) + (65201).to_bytes(4, "big") + asn.to_bytes(4, "big"))
    return update(chosen, asn=0, next_hop=random.choice(HOPS), extra=extra, as_path=path)


def write_out(history: History) -> None:
    """Have all that it has gathered written, as its thread does."""
    assert history._file is not None
    history._write(history._file, history._taken())
    history.look_whether_full()


class Recorded:
    """One process after the other, with its history in `directory`. `states` is what the table had at each time."""

    def __init__(self, directory: Path, *, seed: int = 0, max_bytes: int = 1 << 26) -> None:
        self.directory = directory
        self.random = random.Random(seed)
        self.now = 1_700_000_000.0
        self.states: dict[float, object] = {}
        self._max_bytes = max_bytes
        self.start()

    def start(self, *, is_adopting: bool = False) -> None:
        """A process with empty tables; with `is_adopting` it goes on with what the one before left."""
        self.config = self.config if is_adopting else config()
        resolved = self.outside.resolved if is_adopting else {}
        self.sources: dict[str, Source] = {}
        self._decoders: dict[Source, UpdateDecoder] = {}
        self._walks: list[Iterator[bool]] = []
        self._imports: dict[int, Source] = {}
        self.outside = Recorder(self.config)
        self.outside.resolved = resolved
        self.rib = self.outside.rib
        self.rib._now = self.rib.received._now = self.clock
        self.rib.received.stale._wall = self.clock
        self.history = History(
            self.directory / DIRECTORY, max_bytes=self._max_bytes, config=self.config.rib, now=self.clock
        )
        outside = self.outside
        self.rib.connect(kernel=outside, neighbors=outside, evpn=outside, workloads=outside, recorder=self.history)
        self.history.started((), is_adopting=is_adopting)

    def clock(self) -> float:
        return self.now

    def write(self) -> None:
        """Have all that was gathered written."""
        write_out(self.history)

    def up(self, name: str) -> None:
        if name in self.sources:
            return
        source = self._source(name)
        received = self.rib.received
        self.remove(received.neighbor_back(source, AGREED[name], self._section(name), now=self.now))
        received.neighbor_up(source, AGREED[name], self._section(name))

    def _source(self, name: str) -> Source:
        number = NUMBERS[name]
        source = self.sources[name] = Source(
            name=name,
            kind=SourceKind.EBGP,
            asn=65201,
            router_id=bytes((10, 0, 0, number)),
            address=bytes((10, 0, number, 2)),
        )
        self._decoders[source] = UpdateDecoder(AGREED[name], nlri_decoders={}, accept_martians=False)
        return source

    def _section(self, name: str) -> NeighborConfig:
        return next(one for one in self.config.neighbor if one.name == name)

    def lose(self, name: str, *, is_graceful: bool) -> None:
        source = self.sources.pop(name, None)
        if source is not None:
            received = self.rib.received
            going = received.session_lost(source, is_graceful=is_graceful, now=self.now)
            self.history.session_closed(source, "hold timer expired", received.stale.of_session(source))
            self.remove(going)

    def remove(self, places: object) -> None:
        drain(self.rib.received.remove(places))  # type: ignore[arg-type]

    def hear(self, name: str, *messages: bytes) -> None:
        """UPDATEs of a neighbor, worked off as sessions do."""
        source = self.sources.get(name)
        if source is None:
            return
        for batches in self.record(source, *messages):
            self.rib.received.routes_received(source, batches)

    def record(self, source: Source, *messages: bytes) -> list[Sequence[RouteBatch]]:
        """UPDATEs of a session, as they are read; their routes."""
        bodies = [one[19:] for one in messages]
        read: list[Sequence[RouteBatch]] = [self._decoders[source].decode(body).batches for body in bodies]
        self.history.heard(source, bodies, [batch for batches in read for batch in batches])
        return read

    def end_of_rib(self, name: str) -> None:
        if name in self.sources:
            self.hear(name, END_OF_RIB)
            self.remove(self.rib.received.stale.end_of_rib(name, V4))

    def stale_due(self) -> None:
        going, long_lived = self.rib.received.stale.due(self.now)
        drain(self.rib.received.become_long_lived(long_lived))
        self.remove(going)

    def own(self) -> None:
        keys = [key(one) for one in self.random.sample(PREFIXES[1:], 2)]
        if self.random.random() < 0.5:
            self.rib.announce_local(LOCAL, V4, keys, Attributes.of())
        else:
            self.rib.withdraw_local(LOCAL, V4, keys)

    def import_some(self) -> None:
        """What EVPN does with the routes of a VRF."""
        number = self.random.choice((1, 2))
        source = self._imports.get(number)
        if source is not None and self.random.random() < 0.1:
            del self._imports[number]
            drain(self.rib.remove_imported(VRF, V4, source))
            return
        if source is None:
            rd = bytes((0, 1, 10, 0, 0, number, 0, 5))
            source = self._imports[number] = Source(
                name=f"leaf{number} rd 10.0.0.{number}:5 type-5", kind=SourceKind.EVPN, asn=65201, router_id=rd[2:6]
            )
        chosen = [key(one) for one in self.random.sample(PREFIXES, 3)]
        if self.random.random() < 0.3:
            self.rib.withdraw_imported(VRF, V4, source, chosen)
        elif self.random.random() < 0.5:
            self.rib.import_routes(VRF, V4, chosen, self._import_path(source))
        else:
            self.rib.import_few(VRF, V4, [(one, self._import_path(source)) for one in chosen])

    def _import_path(self, source: Source) -> Way:
        received = Attributes.of(med=self.random.randint(0, 3))
        attributes = received if self.random.random() < 0.5 else received.changed(local_pref=200)
        hop = NextHop(parse_address(self.random.choice(HOPS)), "@red")
        rejected = "no VNI" if self.random.random() < 0.1 else ""
        return Way.of(source, attributes, hop, received, self.now, rejected, Overlay(bytes(10), (5,)))

    def next_hop(self) -> None:
        next_hop = NextHop(parse_address(self.random.choice(HOPS)))
        why = self.random.choice(("", "no route"))
        self.outside.resolved[next_hop] = why
        drain(self.rib.next_hop_changed(next_hop, why))
        recursive = NextHop(next_hop.address, "@red")
        self.outside.resolved_in[VRF, recursive] = why
        drain(self.rib.next_hop_changed(recursive, why, vrf=VRF))

    def reconfigure(self) -> None:
        self.config = config(self.random.choice((50, 100, 200)))
        drain(self.rib.reconfigure(self.config.rib))

    def refresh(self, name: str) -> None:
        source = self.sources.get(name)
        if source is not None:
            self.rib.received.refresh_began(source, V4)
            self.hear(name, *(message(self.random) for _ in range(2)))
            drain(self.rib.received.refresh_ended(source, V4))

    def begin_base(self) -> None:
        if not self._walks:
            self._walks.append(base(self.history, self.rib, self.rib.received._host, lambda: False))

    def hand_over(self) -> None:
        """Another process goes on. Its sources of workloads say again what they had said."""
        names, saved = list(self.sources), msgspec.msgpack.encode(self.rib.to_leave().rest()[0])
        resolved_in = self.outside.resolved_in
        told = {source.name: routes for source, routes in self.outside.told.items() if source in self.sources.values()}
        table = self.rib.table("", V4)
        own = [one for one in table.routes if (entry := table.routes.get(one)) and entry.path_of(LOCAL.name)]
        imports = list(self._imports.items())
        red = self.rib.table(VRF, V4)
        paths = [(one, path) for one in red.routes if (entry := red.routes.get(one)) for path in entry.candidates]
        self.history.close(is_handed_over=True)
        self.start(is_adopting=True)
        self.outside.resolved_in = resolved_in
        for name in names:
            self.rib.received.neighbor_up(self._source(name), AGREED[name], self._section(name), is_adopted=True)
            self.outside.told[self.sources[name]] = told.get(name, {})
        left = msgspec.msgpack.decode(saved, type=SavedRib)
        former = self.rib.received.restore_former(left)
        drain(self.rib.received.restore(left, former))
        if own:
            self.rib.announce_local(LOCAL, V4, own, Attributes.of())
        self.rib.dissemination.release()
        for number, source in imports:
            again = self._imports[number] = msgspec.structs.replace(source)
            mine = [(one, path) for one, path in paths if path.source is source]
            self.rib.import_few(
                VRF,
                V4,
                [
                    (
                        one,
                        Way.of(
                            again, path.attributes, path.next_hop, path.received, self.now, path.rejected, path.overlay
                        ),
                    )
                    for one, path in mine
                ],
            )

    def crash(self) -> None:
        """Another process begins anew; all that this one knew was written."""
        self.write()
        self.start()
        self.outside.resolved_in = {}

    def act(self) -> None:
        """Something happens, and is over before the next second."""
        name = self.random.choice(("leaf1", "leaf2"))
        acts = [
            (40, lambda: self.hear(name, *(message(self.random) for _ in range(self.random.randint(1, 3))))),
            (12, lambda: self.up(name)),
            (2, lambda: self.lose(name, is_graceful=False)),
            (3, lambda: self.lose(name, is_graceful=True)),
            (4, lambda: self.end_of_rib(name)),
            (8, self.own),
            (8, self.next_hop),
            (15, self.import_some),
            (3, self.reconfigure),
            (3, lambda: self.refresh(name)),
            (4, self.begin_base),
            (8, self.write),
            (0.5, self.crash),
            (1, self.hand_over),
        ]
        weights, functions = zip(*acts)
        self.now += self.random.choice((1, 1, 1, 1, 60))
        self.stale_due()
        if self.history.wants_base:
            self.begin_base()
        self.random.choices(functions, weights)[0]()
        for walk in list(self._walks):
            if next(walk, None) is None:
                self._walks.remove(walk)
        self.rib.flush()
        assert not any(isinstance(one, partial) for one in self.outside.scheduled), "a session would have failed"
        self.states[self.now] = self.state()

    def state(self) -> object:
        """What the tables have for the address, and what neighbors were sent of it."""
        wanted = frozenset(covering_keys(V4, ADDRESS))
        sent = {
            (state.source.name, one, advertisement.attributes.block)
            for state in self.rib.received.states()
            for one, advertisement in state.exports[V4].advertised.items()
            if one in wanted and not advertisement.learned
        }
        return of_table(self.rib.table("", V4)), of_table(self.rib.table(VRF, V4)), sent


def of_table(table: LocRib) -> object:
    """What it has for the address."""
    found = longest_match(table, V4, ADDRESS) or longest_match(table, V4, ADDRESS, usable=False)
    return said(route_view(table, V4, found) if found is not None else None)


def said(route: RouteView | None) -> object:
    """A route but for the times, which the table keeps by ten seconds."""
    if route is None:
        return None
    candidates = [
        (one.source, one.role, one.reason, one.next_hop, one.as_path, one.med, one.local_pref, tuple(one.communities))
        for one in route.candidates
    ]
    return (route.prefix, route.fib, candidates)


def wanted() -> These:
    return These(covering_keys(V4, ADDRESS))
