"""What a dump lacks is gone only if something else says so: a scripted kernel whose dumps lie as Linux's do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bgpd.kernel.foreign_reader import Dump, Scope, compare, is_one_part
from bgpd.kernel.foreign_routes import Place, Routes
from bgpd.model.iana import Family
from bgpd.model.kernel import KernelRoute

V6 = Family.IPV6_UNICAST
ALL = Scope(V6)


def route(number: int, interface: str = "", *, protocol: int = 3) -> KernelRoute:
    key = b"\x80" + bytes.fromhex("20010db8") + bytes(10) + number.to_bytes(2, "big")
    return KernelRoute(
        family=V6, key=key, table=254, protocol=protocol, metric=1024, interface=interface or f"c{number}"
    )


def place(one: KernelRoute) -> Place:
    return one.family, one.table, one.key


class LyingKernel:
    """`lies(scope, number of the dump)` says which routes a dump of several parts leaves out; a part holds `part`."""

    def __init__(self, routes: list[KernelRoute], *, part: int = 10) -> None:
        self.routes = routes
        self.part = part
        self.dumps: list[Scope] = []
        self.lies: Callable[[Scope, int], list[KernelRoute]] = lambda _scope, _dump: []

    def read(self, scope: Scope) -> Dump:
        self.dumps.append(scope)
        if scope.interface and not scope.index:
            return Dump({}, is_whole=True)
        shown = [one for one in self.routes if scope.contains(one)]
        is_whole = len(shown) <= self.part
        left_out = [] if is_whole else self.lies(scope, len(self.dumps))
        found: dict[Place, list[KernelRoute]] = {}
        for one in shown:
            if one not in left_out:
                found.setdefault(place(one), []).append(one)
        return Dump(found, is_whole)

    def compare(self, known: dict[Place, Routes], scope: Scope = ALL) -> dict[Place, Routes]:
        index_of = {f"c{number}": number + 1 for number in range(400)} | {"br0": 500}
        return compare(scope, known, self.read, index_of)


def known_of(routes: list[KernelRoute]) -> dict[Place, Routes]:
    return {place(one): (one,) for one in routes}


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [([], True), ([500], True), ([20_000], True), ([32_400], False), ([32_400, 132], False), ([3_700], False)],
)
def test_a_part_that_is_full_may_have_been_followed_by_more(
    monkeypatch: pytest.MonkeyPatch, lengths: list[int], expected: bool
) -> None:
    monkeypatch.setattr("bgpd.kernel.foreign_reader._SMALL_PART", 4096)
    assert is_one_part(lengths) is expected


def test_nothing_is_gone_that_one_dump_lacks() -> None:
    kernel = LyingKernel([route(n) for n in range(300)])
    kernel.lies = lambda _scope, dump: kernel.routes if dump == 1 else []
    known = known_of(kernel.routes)
    assert kernel.compare(known) == {}
    assert len(known) == 300
    assert len(kernel.dumps) == 2


def test_what_several_dumps_lack_is_looked_at_by_its_interface() -> None:
    kernel = LyingKernel([route(n) for n in range(300)])
    kernel.lies = lambda scope, _dump: kernel.routes[:20] if scope == ALL else []
    assert kernel.compare(known_of(kernel.routes)) == {}
    assert Scope(V6, 1, "c0") in kernel.dumps


def test_what_is_gone_is_found_to_be_while_dumps_lie() -> None:
    kernel = LyingKernel([route(n) for n in range(300)])
    known = known_of(kernel.routes)
    lost = [kernel.routes.pop(5), kernel.routes.pop(7)]
    kernel.lies = lambda scope, _dump: kernel.routes[:100] if scope == ALL else []
    assert kernel.compare(known) == {place(one): () for one in lost}
    assert len(known) == 298


def test_dump_of_one_part_is_believed_at_once() -> None:
    kernel = LyingKernel([route(n) for n in range(5)])
    known = known_of([*kernel.routes, route(9)])
    assert kernel.compare(known) == {place(route(9)): ()}
    assert len(kernel.dumps) == 1


def test_routes_of_an_interface_that_is_gone_are_gone() -> None:
    kernel = LyingKernel([route(n) for n in range(30)])
    known = known_of([*kernel.routes, route(40, "gone0")])
    assert kernel.compare(known) == {place(route(40)): ()}


def test_interface_with_more_routes_than_a_part_holds_is_dumped_several_times() -> None:
    kernel = LyingKernel([route(n, "br0") for n in range(30)])
    known = known_of([*kernel.routes, route(99, "br0")])
    kernel.lies = lambda _scope, dump: kernel.routes[:5] if dump < 4 else []
    assert kernel.compare(known, Scope(V6, 500, "br0")) == {place(route(99, "br0")): ()}
    assert len(kernel.dumps) == 4


def test_new_routes_are_found_beside_known_ones() -> None:
    first, second = route(1, "c1"), route(1, "c2")
    kernel = LyingKernel([first, second])
    known = known_of([first])
    assert kernel.compare(known) == {place(first): (first, second)}


def test_reading_of_one_interface_says_nothing_of_others() -> None:
    first, second, other = route(1, "c1"), route(1, "c2"), route(3, "c3")
    kernel = LyingKernel([second])
    known = {place(first): (first, second), place(other): (other,)}
    assert kernel.compare(known, Scope(V6, 2, "c1")) == {place(first): (second,)}


def test_reading_of_one_protocol_says_nothing_of_others() -> None:
    kernel = LyingKernel([])
    known = known_of([route(1, protocol=3), route(2, protocol=4)])
    assert kernel.compare(known, Scope(V6, protocol=4)) == {place(route(2)): ()}
