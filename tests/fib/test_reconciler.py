"""What a dump is found to differ in from what is believed."""

from __future__ import annotations

from bgpd.fib.dump import RouteRun
from bgpd.fib.reconciler import Comparison, adopt, missing
from bgpd.fib.route_messages import RouteForm
from bgpd.model.iana import Family

FORM = RouteForm(254, 197, 20)
A, B, C = b"\x08\x0a", b"\x08\x0b", b"\x08\x0c"


def run(*routes: tuple[bytes, int], metric: int = 20, protocol: int = 197) -> RouteRun:
    keys, targets = [key for key, _target in routes], [target for _key, target in routes]
    return RouteRun(Family.IPV4_UNICAST, 254, protocol, 1, keys, targets, [metric] * len(routes))


def test_equal_tables_leave_nothing_to_do() -> None:
    comparison = Comparison({A: 1, B: 1}, FORM)
    comparison.add(run((A, 1), (B, 1)))
    assert (comparison.suspects, comparison.strays, comparison.all_present(0)) == ([], [], True)


def test_changed_and_unknown_routes_are_suspect() -> None:
    comparison = Comparison({A: 1, B: 1}, FORM)
    comparison.add(run((A, 2), (B, 1), (C, 1)))
    assert comparison.suspects == [A, C]
    assert comparison.all_present(0)


def test_missing_routes_are_counted_then_named() -> None:
    comparison = Comparison({A: 1, B: 1}, FORM)
    comparison.add(run((A, 1)))
    assert not comparison.all_present(0)
    assert comparison.all_present(1)
    assert missing([A, B], [run((A, 1))]) == [B]


def test_routes_of_others_are_no_suspects_and_other_metrics_are_strays() -> None:
    comparison = Comparison({A: 1}, FORM)
    comparison.add(run((A, 1)))
    comparison.add(run((B, 1), protocol=4))
    comparison.add(run((C, 1), metric=50))
    assert (comparison.suspects, comparison.strays) == ([], [(C, 50)])


def test_adoption_counts_routes_by_target() -> None:
    installed, counts, strays = adopt([run((A, 1), (B, 1)), run((C, 2), metric=50), run((C, 3), protocol=4)], FORM)
    assert (installed, dict(counts), strays) == ({A: 1, B: 1}, {1: 2}, [(C, 50)])
