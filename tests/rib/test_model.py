"""The whole RIB against the naive reference, under random histories, with walks interrupted at any point."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bgpd.config.schema import Config
from bgpd.config.schema_policies import MatchConfig, PolicyConfig, RuleConfig, SetConfig
from bgpd.config.schema_sessions import GracefulRestartConfig, NeighborConfig
from bgpd.message.open import GracefulRestart
from bgpd.model.iana import COMMUNITY_LLGR_STALE, COMMUNITY_NO_ADVERTISE, COMMUNITY_NO_EXPORT, Origin
from bgpd.model.route_batch import RouteBatch
from bgpd.model.source import Source, SourceKind
from bgpd.rib import adj_rib_in as revision
from bgpd.rib import loc_rib
from bgpd.rib.what_if import Fate, fate_between
from bgpd.rib.what_if_changed import outcome_of
from bgpd.runtime.copy_of_process import in_a_copy
from tests.message.decoding import negotiated
from tests.rib.build import LOCAL, LOCAL_ASN, V4, Recorder, attributes, configuration, hop, key, leaf, session
from tests.rib.reference import Reference

KEYS = [
    key(prefix)
    for prefix in ("0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/24", "10.1.0.1/32", "10.1.0.2/32", "10.2.0.0/24", "10.2.0.9/32")
]
ATTRIBUTES = [
    attributes(65201),
    attributes(65201),
    attributes(65201, 65301),
    attributes(65202, 65301),
    attributes(65201, med=10),
    attributes(65201, med=20),
    attributes(65202, med=5, origin=Origin.INCOMPLETE),
    attributes(65201, local_pref=300),
    attributes(65201, LOCAL_ASN),
    attributes(65201, communities=(COMMUNITY_NO_EXPORT,)),
    attributes(65201, communities=(COMMUNITY_NO_ADVERTISE,)),
    attributes(65202, communities=(65000 << 16 | 1,)),
    attributes(65202, communities=(COMMUNITY_LLGR_STALE,)),
    attributes(),
]
HOPS = [hop("10.0.1.2"), hop("10.0.2.2"), hop("10.0.3.2")]
NAMES = ("leaf1", "leaf2", "ib1")
POLICIES = {
    "by-prefix": PolicyConfig(
        rules=(
            RuleConfig(match=MatchConfig(prefix=("10.1.0.0/24 le 32",)), set=SetConfig(local_pref=200)),
            RuleConfig(match=MatchConfig(prefix=("10.2.0.0/24",)), action="reject"),
            RuleConfig(match=MatchConfig(community=("65000:1",)), set=SetConfig(local_pref=50)),
            RuleConfig(match=MatchConfig(prefix=("0.0.0.0/0 ge 8 le 24",))),
        )
    ),
    "tagged": PolicyConfig(
        rules=(
            RuleConfig(
                match=MatchConfig(neighbor=("leaf1",)), set=SetConfig(add_community=("65203:7",)), action="next"
            ),
            RuleConfig(match=MatchConfig(community=("65000:1",)), set=SetConfig(local_pref=150)),
            RuleConfig(),
        )
    ),
}
IMPORTS = ("all", "none", "default-only", "by-prefix", "tagged")
EXPORTS = ("local", "all", "none", "default-only", "by-prefix", "tagged")


RESTART = GracefulRestart(notification=True, restart_time_s=120, families=((1, 1, True),))
GRACEFUL = negotiated(families=(V4,), graceful_restart=RESTART, hard_reset=True)
GRACEFUL_IBGP = negotiated(families=(V4,), graceful_restart=RESTART, hard_reset=True, ibgp=True)


def _config(imports: tuple[str, ...], exports: tuple[str, ...], allow_own_as: int = 0) -> Config:
    neighbors = [
        session(
            name, import_=imported, export=exported, allow_own_as=allow_own_as, graceful_restart=GracefulRestartConfig()
        )
        for name, imported, exported in zip(NAMES, imports, exports)
    ]
    # A range that exports learned routes, so that the kernel's acknowledgements are followed from the start.
    return configuration(*neighbors, session("any", export="all"), policy=POLICIES)


def _source(name: str) -> Source:
    number = NAMES.index(name) + 1
    return leaf(number, name=name, kind=SourceKind.IBGP if name == "ib1" else SourceKind.EBGP)


keys_of = st.lists(st.sampled_from(KEYS), min_size=1, max_size=7)
names = st.sampled_from(NAMES)


class RibMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.config = _config(("all", "all", "all"), ("local", "all", "default-only"))
        self.recorder = Recorder(self.config)
        self.reference = Reference(self.config)
        self.reference.said[LOCAL] = {}
        self.sources: dict[str, Source] = {}
        self.walks: list[Iterator[None]] = []
        self.stale: dict[Source, set[bytes]] = {}
        for name in NAMES:
            self.open(name)

    def open(self, name: str) -> None:
        source = _source(name)
        received = self.recorder.rib.received
        received.neighbor_up(source, GRACEFUL_IBGP if name == "ib1" else GRACEFUL, self.settings_of(name))
        self.sources[name] = source
        self.reference.said[source] = {}

    def settings_of(self, name: str) -> NeighborConfig:
        return next(one for one in self.config.neighbor if one.name == name)

    def former(self, name: str) -> list[Source]:
        """Earlier sessions of a neighbor whose routes are kept."""
        return [one for one in self.reference.said if one.name == name and one is not self.sources[name]]

    def said_anew(self, name: str, keys: list[bytes]) -> None:
        for source in self.former(name):
            for one in keys:
                self.reference.said[source].pop(one, None)

    @rule(name=names, keys=keys_of, given=st.sampled_from(ATTRIBUTES), next_hop=st.sampled_from(HOPS))
    def announce(self, name, keys, given, next_hop):  # type: ignore[no-untyped-def]
        source = self.sources[name]
        batch = RouteBatch(family=V4, announced=keys, attributes=given, next_hop=next_hop)
        self.recorder.rib.received.routes_received(source, [batch])
        self.said_anew(name, keys)
        self.reference.said[source].update(dict.fromkeys(keys, (given, next_hop)))
        self.stale.get(source, set()).difference_update(keys)

    @rule(name=names, gone=keys_of, keys=keys_of, given=st.sampled_from(ATTRIBUTES))
    def withdraw_and_announce(self, name, gone, keys, given):  # type: ignore[no-untyped-def]
        source = self.sources[name]
        batch = RouteBatch(family=V4, withdrawn=gone, announced=keys, attributes=given, next_hop=HOPS[0])
        self.recorder.rib.received.routes_received(source, [batch])
        self.said_anew(name, gone + keys)
        for one in gone:
            self.reference.said[source].pop(one, None)
        self.reference.said[source].update(dict.fromkeys(keys, (given, HOPS[0])))
        self.stale.get(source, set()).difference_update(keys)

    @rule(name=names, keys=keys_of)
    def withdraw(self, name, keys):  # type: ignore[no-untyped-def]
        source = self.sources[name]
        self.recorder.rib.received.routes_received(source, [RouteBatch(family=V4, withdrawn=keys)])
        self.said_anew(name, keys)
        for one in keys:
            self.reference.said[source].pop(one, None)

    @rule(keys=keys_of, given=st.sampled_from((ATTRIBUTES[-1], attributes(med=3))))
    def originate(self, keys, given):  # type: ignore[no-untyped-def]
        self.recorder.rib.announce_local(LOCAL, V4, keys, given)
        self.reference.said[LOCAL].update(dict.fromkeys(keys, (given, None)))

    @rule(keys=keys_of)
    def no_longer_originate(self, keys):  # type: ignore[no-untyped-def]
        self.recorder.rib.withdraw_local(LOCAL, V4, keys)
        for one in keys:
            self.reference.said[LOCAL].pop(one, None)

    def foreseen(self, change):  # type: ignore[no-untyped-def]
        """The fate of each key, and the last word on each to each neighbor, worked out in a copy of this process."""
        self.settle()

        async def work() -> bytes:
            outcome = outcome_of(change, self.recorder.rib, with_fates=True)
            fates = outcome.tables["", V4].fates or {}
            told = {
                name: {key.hex(): is_announced for (_, key), is_announced in one.said.items()}
                for name, one in outcome.told.items()
            }
            return msgspec.json.encode(({key.hex(): fate for key, fate in fates.items()}, told))

        return msgspec.json.decode(asyncio.run(in_a_copy(work)))

    def has_come(self, foreseen, before, sent):  # type: ignore[no-untyped-def]
        """What was foreseen is what came."""
        self.settle()
        fates, told = foreseen
        for one in KEYS:
            had, has, fate = before.get(one), self.recorder.fib.get(one), fates.get(one.hex())
            if had or has:
                entry = self.recorder.rib.decision("", V4, one)
                assert fate == fate_between(had, has) or (entry and entry.is_local), (one, had, has)
            else:
                assert fate in (Fate.UNUSED, Fate.UNCHANGED, None), one
        said: dict[str, dict[str, bool]] = {}
        for source, batch in self.recorder.sent[sent:]:
            mine = said.setdefault(source.name, {})
            mine.update({one.hex(): False for one in batch.withdrawn})
            mine.update({one.hex(): True for one in batch.announced})
        assert said == told, (said, told)

    @rule(imports=st.tuples(*[st.sampled_from(IMPORTS)] * 3), exports=st.tuples(*[st.sampled_from(EXPORTS)] * 3))
    def foresee_another_configuration(self, imports, exports):  # type: ignore[no-untyped-def]
        config = _config(imports, exports)
        foreseen = self.foreseen(lambda rib: rib.reconfigure(config))
        before, sent = dict(self.recorder.fib), len(self.recorder.sent)
        self.reconfigure(imports, exports, 0)
        self.has_come(foreseen, before, sent)

    @rule(name=names)
    def foresee_the_end_of_a_neighbor(self, name):  # type: ignore[no-untyped-def]
        source = self.sources[name]
        foreseen = self.foreseen(lambda rib: rib.received.neighbor_down(source))
        before, sent = dict(self.recorder.fib), len(self.recorder.sent)
        self.walks.append(self.recorder.rib.received.neighbor_down(source))
        for one in [source, *self.former(name)]:
            del self.reference.said[one]
        self.recorder.told.pop(source, None)
        self.finish_walks()
        self.recorder.turn()
        self.recorder.acknowledge(*KEYS)
        self.recorder.turn()
        del self.sources[name]
        self.has_come(foreseen, before, sent)
        self.open(name)

    @rule(name=names)
    def lose_session_and_come_back(self, name):  # type: ignore[no-untyped-def]
        source = self.sources[name]
        self.walks.append(self.recorder.rib.received.neighbor_down(source))
        for one in [source, *self.former(name)]:
            del self.reference.said[one]
        self.recorder.told.pop(source, None)
        self.open(name)

    @rule(name=names)
    def restart_gracefully(self, name):  # type: ignore[no-untyped-def]
        """RFC 4724: what the former session said stays until it is said again, withdrawn, or End-of-RIB comes."""
        source = self.sources[name]
        received = self.recorder.rib.received
        self.walks.append(received.remove(received.session_lost(source, is_graceful=True, now=self.recorder.now)))
        self.recorder.told.pop(source, None)
        self.stale.pop(source, None)
        self.open(name)
        going = received.neighbor_back(self.sources[name], GRACEFUL, self.settings_of(name), now=self.recorder.now)
        assert not going, "the neighbor forwards on"

    @rule(name=names)
    def end_of_rib(self, name):  # type: ignore[no-untyped-def]
        received = self.recorder.rib.received
        self.walks.append(received.remove(received.stale.end_of_rib(name, V4), is_back=True))
        for source in self.former(name):
            del self.reference.said[source]

    @rule(next_hop=st.sampled_from(HOPS), why=st.sampled_from(("", "link down", "no route")))
    def change_next_hop(self, next_hop, why):  # type: ignore[no-untyped-def]
        self.recorder.resolved[next_hop] = why
        self.walks.append(self.recorder.rib.next_hop_changed(next_hop, why))
        (self.reference.unreachable.add if why else self.reference.unreachable.discard)(next_hop)

    @rule(
        imports=st.tuples(*[st.sampled_from(IMPORTS)] * 3),
        exports=st.tuples(*[st.sampled_from(EXPORTS)] * 3),
        allow_own_as=st.integers(0, 1),
    )
    def reconfigure(self, imports, exports, allow_own_as):  # type: ignore[no-untyped-def]
        self.config = self.reference.config = _config(imports, exports, allow_own_as)
        self.walks.append(self.recorder.rib.reconfigure(self.config))

    @rule(name=names)
    def refresh(self, name):  # type: ignore[no-untyped-def]
        self.recorder.rib.received.refresh_requested(self.sources[name], V4)

    @rule(name=names)
    def begin_refresh(self, name):  # type: ignore[no-untyped-def]
        self.finish_walks()
        source = self.sources[name]
        self.recorder.rib.received.refresh_began(source, V4)
        self.stale[source] = set(self.reference.said[source])

    @rule(name=names)
    def end_refresh(self, name):  # type: ignore[no-untyped-def]
        source = self.sources[name]
        self.walks.append(self.recorder.rib.received.refresh_ended(source, V4))
        for one in self.stale.pop(source, ()):
            self.reference.said[source].pop(one, None)

    def finish_walks(self) -> None:
        while self.walks:
            self.walks = [walk for walk in self.walks if next(walk, 0) is None]

    @rule()
    def let_time_pass(self) -> None:
        self.recorder.now += 11

    @rule()
    def commit_gathered(self) -> None:
        self.recorder.rib.commit_gathered()

    @rule()
    def turn(self) -> None:
        self.recorder.turn()

    @precondition(lambda self: self.walks)
    @rule(data=st.data())
    def step_a_walk(self, data):  # type: ignore[no-untyped-def]
        walk = data.draw(st.sampled_from(self.walks))
        if next(walk, 0) == 0:
            self.walks.remove(walk)

    @rule(keys=keys_of)
    def acknowledge(self, keys):  # type: ignore[no-untyped-def]
        self.recorder.acknowledge(*keys)

    @rule()
    def settle(self) -> None:
        self.finish_walks()
        self.recorder.turn()
        self.recorder.acknowledge(*KEYS)
        self.recorder.turn()
        assert self.recorder.fib == self.reference.fib()
        for source in self.sources.values():
            told = self.recorder.told.get(source, {})
            contents = {one: msgspec.structs.astuple(sent) for one, sent in told.items()}
            assert contents == self.reference.told(source), source.name
            state = next(one for one in self.recorder.rib.received.states() if one.source is source)
            assert {one for one in KEYS if not state.exports[V4].why_not(one)} == set(told), source.name
            counts = self.recorder.rib.received.counts(source)[V4]
            assert counts.received == len(self.reference.said[source])
            assert counts.announced == len(told)
        table = self.recorder.rib.table("", V4)
        assert set(table.routes) == self.reference.keys()
        assert sum(decision.routes for decision in table.distinct()) == len(table.routes)

    @invariant()
    def changes_are_changes(self) -> None:
        """No key is told to the FIB whose next hops are the tuple that it has."""
        for changes in self.recorder.fib_calls:
            assert changes
        self.recorder.fib_calls.clear()

    def teardown(self) -> None:
        self.settle()


class TestRibAgainstReference(RibMachine.TestCase):
    settings = settings(max_examples=100, stateful_step_count=40, deadline=None)

    @pytest.fixture(autouse=True)
    def _short_slices(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loc_rib, "SLICE", 2)
        monkeypatch.setattr(revision, "SLICE", 2)
