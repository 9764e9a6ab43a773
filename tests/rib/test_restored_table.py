"""A table that another process has left: whatever its policies are and happens meanwhile, all is as announced anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.config.schema_policies import MatchConfig, PolicyConfig, RuleConfig, SetConfig
from bgpd.message.open import GracefulRestart
from bgpd.model.route_batch import RouteBatch
from bgpd.model.source import Source
from bgpd.rib import restored_table
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.prepared import PreparedRib
from bgpd.rib.saved import SavedRib, columns
from tests.message.decoding import negotiated
from tests.rib.build import LOCAL, LOCAL_ASN, V4, Recorder, attributes, configuration, drain, hop, key, leaf, session

pytestmark = pytest.mark.hypothesis

POLICIES = {
    "by-prefix": PolicyConfig(
        rules=(
            RuleConfig(match=MatchConfig(prefix=("10.1.0.0/16", "10.2.0.0/16")), action="reject"),
            RuleConfig(match=MatchConfig(prefix=("10.3.0.0/16",)), set=SetConfig(local_pref=50), action="accept"),
            RuleConfig(),
        )
    ),
    "by-attributes": PolicyConfig(
        rules=(RuleConfig(match=MatchConfig(as_path=("65300",)), set=SetConfig(med=7)), RuleConfig(action="reject"))
    ),
}
SESSIONS = tuple(session(f"leaf{n}", import_=name) for n, name in ((1, "all"), (2, "by-prefix"), (3, "by-attributes")))
CONFIG = configuration(*SESSIONS, policy=POLICIES)
PREFIXES = [f"10.{number}.0.0/16" for number in range(8)]
HOPS = [hop(f"10.0.{number}.2") for number in range(1, 4)]


@pytest.fixture(scope="module", autouse=True)
def _small_steps() -> Iterator[None]:
    """Much can happen between two of them."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(restored_table, "_ENTRIES", 2)
        patched.setattr(restored_table, "_PATHS", 1)
        patched.setattr(restored_table, "_KEYS", 1)
        patched.setattr(restored_table, "_AHEAD", 5)
        yield


announcements = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.integers(0, 2),
        st.lists(st.sampled_from(PREFIXES), min_size=1, max_size=6, unique=True),
        st.sampled_from([(65201,), (65201, LOCAL_ASN), (65201, 65300), None]),
        st.integers(0, 1),
    ),
    max_size=10,
)
Announcements = list[tuple[int, int, list[str], tuple[int, ...] | None, int]]


def sources() -> list[Source]:
    return [leaf(number) for number in (1, 2, 3)]


def filled(changes: Announcements, *, refreshing: int | None = None) -> Recorder:
    one, speaking = Recorder(CONFIG), sources()
    for source, config in zip(speaking, SESSIONS):
        one.up(source, config)
    half = len(changes) // 2
    change(one, speaking, changes[:half])
    if refreshing is not None and changes:
        one.rib.received.refresh_began(speaking[refreshing], V4)
    change(one, speaking, changes[half:])
    return one


def change(one: Recorder, speaking: list[Source], changes: Announcements) -> None:
    for index, through, prefixes, asns, med in changes:
        one.now += 7
        if asns is None:
            one.withdraw(speaking[index], *prefixes)
        else:
            one.announce(speaking[index], attributes(*asns, med=med), HOPS[through], *prefixes)


def successor(former: Recorder, prepared: PreparedRib | None = None) -> tuple[Recorder, SavedRib]:
    one = Recorder(CONFIG)
    one.now = former.now
    for source, config in zip(sources(), SESSIONS):
        one.rib.received.neighbor_up(source, negotiated(families=(V4,)), config, is_adopted=True)
    rest, base = (prepared or former.rib.to_leave()).rest()
    saved = msgspec.msgpack.decode(msgspec.msgpack.encode(rest), type=SavedRib)
    saved.base = msgspec.msgpack.decode(base, type=SavedRib) if base else None
    return one, saved


def described(table: LocRib, *, without_times: bool = False) -> dict[bytes, object]:
    found: dict[bytes, object] = {}
    for one, entry in table.routes.items():
        paths = [
            (
                path.source.name,
                path.received.block,
                path.attributes.contents,
                path.next_hop,
                0 if without_times else path.heard_at,
                path.rejected,
                entry.role(path),
            )
            for path in entry.candidates
        ]
        found[one] = (paths, entry.next_hops)
    return found


def check_counts(table: LocRib, *, are_found: bool = True) -> None:
    """All that a table counts is what its keys have. `are_found`: no path was heard again, and took the place of one
    that is like it."""
    entries = Counter(table.routes.values())
    assert all(entry.routes == count for entry, count in entries.items())
    keys = Counter(path for entry in table.routes.values() for path in entry.candidates)
    assert all(path.keys == count for path, count in keys.items())
    received, rejected = Counter(), Counter()
    for path, count in keys.items():
        received[path.source] += count
        rejected[path.source] += count if path.rejected else 0
    assert +Counter(table.received) == received
    assert +Counter(table.rejected) == +rejected
    for source, interned in table.interned.items():
        its = [path for path in keys if path.source is source]
        assert interned.next_hops == Counter(path.next_hop for path in its if path.next_hop is not None)
        if are_found:
            assert all(interned.get(path.entered) in its for path in its if path.entered is not None)
        assert bool(interned.bytes_kept) == bool(its)


def heard_again(one: Recorder, saved: SavedRib) -> Iterator[None]:
    """The sessions may be heard; what is left is to step."""
    drain(one.rib.received.restore_sessions(saved, {}))
    return one.rib.received.restore_routes()


def stale(one: Recorder) -> set[tuple[str, bytes]]:
    table = one.rib.table("", V4)
    found = set()
    for prefix, entry in table.routes.items():
        for path in entry.candidates:
            fresh = table.interned[path.source].refreshed
            if fresh is not None and path not in fresh:
                found.add((path.source.name, prefix))
    return found


@given(announcements, st.one_of(st.none(), st.integers(0, 2)))
def test_table_is_what_it_was_and_counts_what_it_has(changes: Announcements, refreshing: int | None) -> None:
    former = filled(changes, refreshing=refreshing)
    one, saved = successor(former)
    drain(one.rib.received.restore(saved, {}))
    assert described(one.rib.table("", V4)) == described(former.rib.table("", V4))
    check_counts(one.rib.table("", V4))
    assert one.fib == former.fib
    assert stale(one) == stale(former)


@given(announcements, st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["", "down"])), max_size=6))
def test_next_hops_that_come_and_go_meanwhile(changes: Announcements, news: list[tuple[int, str]]) -> None:
    former = filled(changes)
    one, saved = successor(former)
    steps, waiting = one.rib.received.restore(saved, {}), list(news)
    for _ in steps:
        if waiting:
            which, why = waiting.pop(0)
            one.resolved[HOPS[which]] = why
            drain(one.rib.next_hop_changed(HOPS[which], why))
    for which, why in one.resolved.items():
        former.resolved[which] = why
        drain(former.rib.next_hop_changed(which, why))
    assert described(one.rib.table("", V4)) == described(former.rib.table("", V4))
    check_counts(one.rib.table("", V4))
    assert one.fib == former.fib


@given(announcements, st.lists(st.sampled_from(PREFIXES), unique=True))
def test_keys_that_this_host_announces_already(changes: Announcements, own: list[str]) -> None:
    former = filled(changes)
    one, saved = successor(former)
    if own:
        one.rib.announce_local(LOCAL, V4, [key(prefix) for prefix in own], attributes())
        former.rib.announce_local(LOCAL, V4, [key(prefix) for prefix in own], attributes())
    drain(one.rib.received.restore(saved, {}))
    assert described(one.rib.table("", V4)) == described(former.rib.table("", V4))
    check_counts(one.rib.table("", V4))


@given(announcements, announcements, st.lists(st.sampled_from(PREFIXES), unique=True))
def test_what_was_written_beforehand_and_what_has_changed_since(
    before: Announcements, since: Announcements, own: list[str]
) -> None:
    former = filled(before)
    own_since = former.now
    if own:
        former.rib.announce_local(LOCAL, V4, [key(prefix) for prefix in own], attributes())
    speaking = [state.source for state in former.rib.received.states()]
    prepared = former.rib.to_leave()
    assert prepared.begin()
    prepared.packed = prepared.base()
    change(former, speaking, since)
    former.rib.commit_gathered()
    one, saved = successor(former, prepared)
    assert saved.base is not None
    assert prepared.columns(saved) == columns(saved)
    drain(one.rib.received.restore(saved, {}))
    one.now = own_since
    if own:
        one.rib.announce_local(LOCAL, V4, [key(prefix) for prefix in own], attributes())
    assert described(one.rib.table("", V4)) == described(former.rib.table("", V4))
    check_counts(one.rib.table("", V4))
    assert all(decision.routes for decision in one.rib.table("", V4).several())
    assert one.fib == former.fib


@given(announcements, announcements, st.integers(0, 100), st.lists(st.sampled_from(PREFIXES), unique=True))
def test_keys_that_were_listed_in_steps_are_those_of_the_moment_of_the_copy(
    before: Announcements, since: Announcements, steps: int, last: list[str]
) -> None:
    former = filled(before)
    speaking = [state.source for state in former.rib.received.states()]
    prepared = former.rib.to_leave()
    listing = prepared.list_keys()
    for _ in islice(listing, steps):
        pass
    change(former, speaking, since)
    former.rib.commit_gathered()
    drain(listing)
    moved = [key(prefix) for prefix in last]
    for batch in (
        RouteBatch(family=V4, withdrawn=moved),
        RouteBatch(family=V4, announced=moved[::-1], attributes=attributes(65201, 9), next_hop=HOPS[0]),
    ):
        former.rib.received.routes_received(speaking[0], [batch])  # in the turn of the loop in which it is copied
    assert prepared.begin()
    assert prepared._columns == {
        (vrf, family): [list(part) for part in table.routes.parts]
        for (vrf, family), table in former.rib.tables.items()
        if not vrf
    }


def test_keys_of_a_table_that_stays_as_it_is_are_listed_in_steps_only() -> None:
    former = filled([(0, 0, PREFIXES, (65201,), 0)])
    prepared = former.rib.to_leave()
    drain(prepared.list_keys())
    listed = {id(keys) for _, keys in prepared._listed.values()}
    assert prepared.begin()
    assert {id(keys) for parts in prepared._columns.values() for keys in parts} == listed


def test_what_came_in_the_turn_of_the_loop_in_which_the_process_leaves() -> None:
    former = filled([(0, 0, PREFIXES[:4], (65201,), 0)])
    prepared = former.rib.to_leave()
    assert prepared.begin()
    prepared.packed = prepared.base()
    (source,) = [state.source for state in former.rib.received.states() if state.source.name == "leaf1"]
    some = [key(prefix) for prefix in PREFIXES]
    moved = RouteBatch(family=V4, announced=[some[1], some[6]], attributes=attributes(65201), next_hop=HOPS[1])
    former.rib.received.routes_received(source, [moved, RouteBatch(family=V4, withdrawn=some[:1])])
    one, saved = successor(former, prepared)
    assert saved.base is not None
    drain(one.rib.received.restore(saved, {}))
    assert described(one.rib.table("", V4)) == described(former.rib.table("", V4))


@pytest.mark.parametrize("what", ["a session that ended", "a refresh that began"])
def test_what_makes_that_worthless(what: str) -> None:
    former = filled([(0, 0, PREFIXES, (65201,), 0), (1, 1, PREFIXES, (65202,), 0)])
    prepared = former.rib.to_leave()
    assert prepared.begin()
    prepared.packed = prepared.base()
    if what == "a session that ended":
        end_session(former, 1)
    else:
        former.rib.received.refresh_began(former.rib.received.states()[0].source, V4)
    rest, base = prepared.rest()
    assert base == b""
    assert prepared.columns(rest) == columns(rest)
    assert sum(len(part.keys) for table in rest.tables for part in table.parts) == len(PREFIXES)
    assert not former.rib.to_leave().begin() or what == "a session that ended"


def test_paths_alike_but_for_the_next_hop_are_each_found_again() -> None:
    former = filled([(0, 0, [PREFIXES[0]], (65201,), 0), (0, 1, [PREFIXES[1]], (65201,), 0)])
    one, saved = successor(former)
    drain(one.rib.received.restore(saved, {}))
    (state,) = [state for state in one.rib.received.states() if state.source.name == "leaf1"]
    table = one.rib.table("", V4)
    for prefix, through in zip(PREFIXES, HOPS[:2]):
        (path,) = table.routes[key(prefix)].candidates
        assert state.adj_rib_in.known(V4, path.received, through) is path


def end_session(one: Recorder, number: int) -> None:
    for state in one.rib.received.states():
        if state.source.name == f"leaf{number + 1}":
            drain(one.rib.received.neighbor_down(state.source))


@given(announcements, st.one_of(st.none(), st.integers(0, 2)), st.integers(0, 50), st.integers(0, 2))
def test_session_that_ends_meanwhile(changes: Announcements, refreshing: int | None, after: int, which: int) -> None:
    former = filled(changes, refreshing=refreshing)
    one, saved = successor(former)
    for number, _ in enumerate(one.rib.received.restore(saved, {})):
        if number == after:
            end_session(one, which)
    end_session(one, which)
    end_session(former, which)
    assert all(decision.routes for decision in one.rib.table("", V4).several())
    assert described(one.rib.table("", V4)) == described(former.rib.table("", V4))
    check_counts(one.rib.table("", V4))
    assert one.fib == former.fib


@given(announcements, announcements, st.lists(st.integers(0, 9), min_size=1), st.booleans())
def test_what_neighbors_say_meanwhile(
    changes: Announcements, news: Announcements, pauses: list[int], is_prepared: bool
) -> None:
    """Each route has what was said of it last, by whom ever, and what was there before until then."""
    former = filled(changes[::2])
    prepared = None
    if is_prepared:
        prepared = former.rib.to_leave()
        assert prepared.begin()
        prepared.packed = prepared.base()
    speaking = [state.source for state in former.rib.received.states()]
    change(former, speaking, changes[1::2])
    former.rib.commit_gathered()
    one, saved = successor(former, prepared)
    steps, heard, waiting = heard_again(one, saved), list(news), list(pauses)
    hearing = [state.source for state in one.rib.received.states()]
    while heard:
        change(one, hearing, [heard.pop(0)])
        one.rib.commit_gathered()
        for _ in range(waiting.pop(0) if waiting else 0):
            next(steps, None)
    drain(steps)
    change(former, speaking, news)
    former.rib.commit_gathered()
    table = one.rib.table("", V4)
    assert described(table, without_times=True) == described(former.rib.table("", V4), without_times=True)
    check_counts(table, are_found=False)
    assert all(decision.routes for decision in table.several())
    assert one.fib == former.fib
    assert one.rib.received.is_complete


@given(announcements, announcements, st.integers(0, 20), st.integers(0, 20), st.integers(0, 2))
def test_what_neighbors_say_while_a_session_ends_and_a_next_hop_goes(
    changes: Announcements, news: Announcements, ending: int, going: int, which: int
) -> None:
    former = filled(changes)
    one, saved = successor(former)
    speaking = [state.source for state in former.rib.received.states()]
    hearing = [state.source for state in one.rib.received.states()]
    steps, heard = heard_again(one, saved), list(news)
    for number in range(max(ending, going, len(heard)) + 1):
        if heard:
            change(one, hearing, [heard.pop(0)])
        one.rib.fallback("", {HOPS[0]})((HOPS[0],))
        if number == ending:
            end_session(one, which)
        if number == going:
            one.resolved[HOPS[0]] = "down"
            drain(one.rib.next_hop_changed(HOPS[0], "down"))
        next(steps, None)
    drain(steps)
    change(former, speaking, news)
    end_session(former, which)
    former.resolved[HOPS[0]] = "down"
    drain(former.rib.next_hop_changed(HOPS[0], "down"))
    one.rib.commit_gathered()
    former.rib.commit_gathered()
    table = one.rib.table("", V4)
    assert described(table, without_times=True) == described(former.rib.table("", V4), without_times=True)
    check_counts(table, are_found=False)
    assert one.fib == former.fib


@pytest.mark.parametrize("is_begun", [True, False])
def test_routes_of_a_session_that_restarts_meanwhile_are_kept_though_none_was_in_the_table(is_begun: bool) -> None:
    former = filled([(0, 0, PREFIXES, (65201,), 0), (1, 1, PREFIXES, (65202,), 0)])
    one, saved = successor(former)
    received = one.rib.received
    steps = heard_again(one, saved) if is_begun else None
    (state,) = [state for state in received.states() if state.source.name == "leaf1"]
    if is_begun:
        assert received.next_hops_of_only([(state.source, V4)]) == {"": {HOPS[0]}}
    words = negotiated(families=(V4,), graceful_restart=GracefulRestart(restart_time_s=100, families=((1, 1, True),)))
    state.negotiated = words
    drain(received.remove(received.session_lost(state.source, is_graceful=True, now=0.0)))
    drain(heard_again(one, saved) if steps is None else steps)
    one.rib.commit_gathered()
    assert described(one.rib.table("", V4)) == described(former.rib.table("", V4))
    assert received.stale_counts("leaf1") == {V4: len(PREFIXES)}


def test_next_hops_of_a_session_are_known_before_what_it_was_sent_is() -> None:
    """It may end meanwhile: what leads to it leaves the kernel at once."""
    former = filled([(0, 0, PREFIXES, (65201,), 0), (1, 1, PREFIXES, (65202,), 0)])
    one, saved = successor(former)
    saved.base = None
    (state,) = [state for state in one.rib.received.states() if state.source.name == "leaf1"]
    next(iter(one.rib.received.restore_sessions(saved, {})), None)
    assert one.rib.received.next_hops_of_only([(state.source, V4)]) == {"": {HOPS[0]}}


def test_nothing_is_complete_before_anything_is_taken_up() -> None:
    """The time of a session that ends then may be over at once (a Restart Time of 0, RFC 9494): what becomes of its
    routes is looked at when they are there."""
    former = filled([(0, 0, PREFIXES, (65201,), 0)])
    one, saved = successor(former)
    received = one.rib.received
    assert not received.is_complete
    drain(heard_again(one, saved))
    drain(received.restore_routes())
    assert received.is_complete


def test_session_that_ends_for_good_before_anything_is_taken_up_leaves_nothing() -> None:
    former = filled([(0, 0, PREFIXES, (65201,), 0), (1, 1, PREFIXES, (65202,), 0)])
    one, saved = successor(former)
    (state,) = [state for state in one.rib.received.states() if state.source.name == "leaf1"]
    drain(one.rib.received.neighbor_down(state.source))
    drain(heard_again(one, saved))
    table = one.rib.table("", V4)
    assert {path.source.name for entry in table.routes.values() for path in entry.candidates} == {"leaf2"}
    check_counts(table)


def test_session_whose_routes_are_told_apart_or_counted_has_to_wait() -> None:
    changes: Announcements = [(0, 0, PREFIXES, (65201,), 0), (1, 1, PREFIXES, (65202,), 0)]
    former = filled(changes, refreshing=0)
    one, saved = successor(former)
    received = one.rib.received
    sources = {state.source.name: state.source for state in received.states()}
    steps = heard_again(one, saved)
    assert {name: received.must_wait(source) for name, source in sources.items()} == {
        "leaf1": True,
        "leaf2": False,
        "leaf3": False,
    }
    received.states()[1].use(session("leaf2", max_prefixes=5, max_prefixes_action="discard"))
    assert received.must_wait(sources["leaf2"])
    assert not received.is_complete
    drain(steps)
    assert received.is_complete
    assert not any(map(received.must_wait, sources.values()))


def test_what_is_in_the_place_of_lost_next_hops_is_known_before_any_route_is_in_the_table() -> None:
    former = filled([(0, 0, PREFIXES, (65201,), 0), (2, 1, PREFIXES, (65201, 65300), 0)])
    one, saved = successor(former)
    steps = heard_again(one, saved)
    for _ in range(6):
        assert one.rib.fallback("", {HOPS[0]})((HOPS[0],)) == (HOPS[1],)
        next(steps, None)
    drain(steps)
    assert described(one.rib.table("", V4)) == described(former.rib.table("", V4))
    check_counts(one.rib.table("", V4))


OTHER_CONFIG = configuration(
    *(session(f"leaf{n}", import_=name) for n, name in ((1, "by-prefix"), (2, "by-attributes"), (3, "all"))),
    policy=POLICIES,
)


@given(announcements, st.integers(0, 50))
def test_policies_that_change_meanwhile(changes: Announcements, after: int) -> None:
    former = filled(changes)
    one, saved = successor(former)
    walks: list[Iterator[None]] = []
    for number, _ in enumerate(one.rib.received.restore(saved, {})):
        if number == after:
            walks.append(one.rib.received.reconfigure(OTHER_CONFIG.rib))
        for walk in walks:
            next(walk, None)
    drain(chain.from_iterable(walks) if walks else one.rib.received.reconfigure(OTHER_CONFIG.rib))
    drain(former.rib.received.reconfigure(OTHER_CONFIG.rib))
    assert described(one.rib.table("", V4)) == described(former.rib.table("", V4))
    assert one.fib == former.fib
