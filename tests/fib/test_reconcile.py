"""What a dump is found to differ in from what is believed."""

from __future__ import annotations

from collections import Counter

import msgspec

from bgpd.fib.reconcile import Adoption, Comparison, Search, to_search
from bgpd.kernel.route_decoder import RouteRun
from bgpd.kernel.route_messages import RouteForm
from bgpd.model.containers import ShardedDict
from bgpd.model.iana import Family

FORM = RouteForm(254, 197, 20)
A, B, C = b"\x08\x0a", b"\x08\x0b", b"\x10\x0c\x01"


def run(*routes: tuple[bytes, int], metric: int = 20, protocol: int = 197) -> RouteRun:
    keys, targets = [key for key, _target in routes], [target for _key, target in routes]
    return RouteRun(Family.IPV4_UNICAST, 254, protocol, 1, keys, targets, [metric] * len(routes))


def believed(*routes: tuple[bytes, int]) -> ShardedDict[int]:
    shards: ShardedDict[int] = ShardedDict()
    shards.update(routes)
    return shards


def test_equal_tables_leave_nothing_to_do() -> None:
    comparison = Comparison(believed((A, 1), (B, 1), (C, 2)), FORM)
    comparison.add(run((A, 1), (B, 1)))
    comparison.add(run((C, 2)))
    assert (comparison.suspects, comparison.strays, comparison.lacking()) == ([], [], [])


def test_changed_and_unknown_routes_are_suspect() -> None:
    comparison = Comparison(believed((A, 1), (B, 1)), FORM)
    comparison.add(run((A, 2), (B, 1), (C, 1)))
    assert comparison.suspects == [A, C]
    assert not comparison.lacking()


def test_missing_routes_are_counted_by_part_then_searched_for_there_only() -> None:
    installed = believed((A, 1), (B, 1), (C, 1))
    comparison = Comparison(installed, FORM)
    comparison.add(run((A, 1), (C, 1)))
    assert not to_search(comparison.lacking(), 1)
    search = Search(installed, FORM, to_search(comparison.lacking(), 0))
    search.add(run((A, 1), (C, 1)))
    assert search.missing() == [B]
    assert len(installed) == 3


def test_what_changed_during_the_dump_explains_what_is_lacking_in_its_part_only() -> None:
    installed = believed((A, 1), (B, 1), (C, 1))
    comparison = Comparison(installed, FORM)
    comparison.add(run((A, 1)))
    lacking = comparison.lacking()
    installed[B + b"\x00\x01"] = 1
    assert comparison.unexplained(lacking, (B,)) == [({C: 1}, 1)]
    assert comparison.unexplained(lacking, (B, A)) == [({C: 1}, 1)]
    assert not comparison.unexplained(lacking, (B, C))


def test_a_route_too_many_in_one_part_does_not_hide_one_missing_in_another() -> None:
    installed = believed((A, 1), (C, 1))
    comparison = Comparison(installed, FORM)
    comparison.add(run((A, 1), (B, 1)))
    search = Search(installed, FORM, to_search(comparison.lacking(), 0))
    search.add(run((A, 1), (B, 1)))
    assert (comparison.suspects, search.missing()) == ([B], [C])


def test_routes_of_others_are_no_suspects_and_other_metrics_are_strays() -> None:
    comparison = Comparison(believed((A, 1)), FORM)
    comparison.add(run((A, 1)))
    comparison.add(run((B, 1), protocol=4))
    comparison.add(run((C, 1), metric=50))
    assert (comparison.suspects, comparison.strays) == ([], [(C, 50)])


def test_adoption_counts_routes_by_target_and_knows_direct_ones() -> None:
    adoption = Adoption(FORM)
    for part in (run((A, 1), (B, -7)), run((C, 2), metric=50), run((C, 3), protocol=4)):
        adoption.add(part)
    assert dict(adoption.installed.items()) == {A: 1, B: -7}
    assert (dict(adoption.counts()), adoption.strays, dict(adoption.direct)) == ({1: 1, -7: 1}, [(C, 50)], {7: {B}})


def test_blackholes_are_no_direct_routes() -> None:
    adoption, told = Adoption(FORM), Adoption(FORM)
    adoption.add(run((A, 0), (B, -7), (C, 1)))
    told.tell(believed((A, 0), (B, -7), (C, 1)), Counter({0: 1, -7: 1, 1: 1}), {})
    assert adoption.direct == told.direct == {7: {B}}


def test_adoption_knows_the_preferred_sources_of_each_target() -> None:
    adoption = Adoption(FORM)
    adoption.add(run((A, 1), (B, 2)))
    assert adoption.sources == {1: {b""}, 2: {b""}}
    with_sources = msgspec.structs.replace(run((C, 1), (A, 3)), sources=[b"\x0a\0\0\1", b"\x0a\0\0\2"])
    adoption.add(with_sources)
    assert adoption.sources == {1: {b"", b"\x0a\0\0\1"}, 2: {b""}, 3: {b"\x0a\0\0\2"}}


def test_key_that_is_read_twice_is_examined_and_counts_once() -> None:
    adoption = Adoption(FORM)
    adoption.add(run((A, 1), (B, 1)))
    assert not adoption.doubles
    assert adoption.counts() == {1: 2}
    adoption.add(run((A, 2), (C, 2)))
    assert set(adoption.doubles) >= {A}
    assert adoption.counts() == {1: 1, 2: 2}
    assert adoption.installed[A] == 2


def test_what_another_process_knows_is_adopted_with_its_sources_and_direct_routes() -> None:
    adoption = Adoption(FORM)
    installed = believed((A, 1), (B, -7), (C, 0))
    adoption.tell(installed, Counter({1: 1, -7: 1, 0: 1}), {1: b"\x0a\0\0\1"})
    assert adoption.installed is installed
    assert adoption.direct == {7: {B}}
    assert adoption.sources == {1: {b"\x0a\0\0\1"}, -7: {b""}, 0: {b""}}
    assert adoption.counts() == {1: 1, -7: 1, 0: 1}
