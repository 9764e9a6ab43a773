"""An exception anywhere in RIB or EVPN while a neighbor's routes are taken: what it said goes with its session whole.

Every function of the two packages raises once, while routes of all kinds come from one neighbor: in the first and in
the last call from each line that calls it; `make fuzz` lets it raise in every call. Either the change is marked as one
of shared state, which ends the daemon, or the end of that session leaves what would be there if it had never spoken.
"""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import hypothesis
import pytest

from bgpd.model.source import Source
from bgpd.runtime.shared_state import SharedStateBroken
from tests.evpn.build import Host, host_route, mobility, prefix_route

Speak = Callable[[Host, Source], None]
Call = tuple[str, str, int]
"""A function of bgpd.rib or bgpd.evpn, the function that calls it, and the line from which."""


class Injected(Exception):
    """The exception of a defect."""


@contextmanager
def traced(called: Callable[[Call], None]) -> Iterator[None]:
    """Tell of every call of a function of bgpd.rib or bgpd.evpn before it does anything."""

    def trace(frame: FrameType, event: str, _: Any) -> None:
        name = str(frame.f_globals.get("__name__"))
        is_generator = frame.f_code.co_flags & inspect.CO_GENERATOR
        if event == "call" and not is_generator and name.startswith(("bgpd.rib.", "bgpd.evpn.")):
            assert frame.f_back is not None
            caller = frame.f_back
            called((f"{name}.{frame.f_code.co_qualname}", caller.f_code.co_qualname, caller.f_lineno))

    before = sys.gettrace()  # that of a measurement of coverage, which has to go on
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


@contextmanager
def failing_at(call: Call, number: int) -> Iterator[None]:
    """Raise in the `number`-th such call, counted from 1."""
    left = number

    def called(this: Call) -> None:
        nonlocal left
        if this == call:
            left -= 1
            if not left:
                raise Injected(call[0])

    with traced(called):
        yield


def first(host: Host, leaf2: Source) -> None:
    """New routes of both types, one address that two MACs claim, a default gateway."""
    host.hear(leaf2, prefix_route("10.64.2.0/24"), prefix_route("10.64.9.0/24"), gateway="10.64.1.9")
    host.hear(leaf2, host_route("10.64.1.9"), host_route("10.64.1.8"), communities=(mobility(3),))
    host.hear(leaf2, host_route("10.64.1.9", mac="02:00:00:00:00:07"), communities=(mobility(4),))
    host.hear(leaf2, host_route("10.2.0.0"), communities=(b"\x03\x0d" + bytes(6),))


def then(host: Host, leaf2: Source) -> None:
    """Some change, some go."""
    host.hear(leaf2, prefix_route("10.64.2.0/24"), gateway="10.64.1.8", target="65201:5002")
    host.unhear(leaf2, host_route("10.64.1.9", mac="02:00:00:00:00:07"), prefix_route("10.64.9.0/24"))
    host.unhear(leaf2, host_route("10.2.0.0"))


def state(host: Host) -> dict[str, Any]:
    """What kernel, neighbors and views have."""
    return {
        "fib": {where: dict(table) for where, table in host.fib.items() if table},
        "told": {where: repr((batch.attributes, batch.overlay)) for where, batch in host.told.items()},
        "rib": {
            where: {key: [path.source.name for path in decision.candidates] for key, decision in table.routes.items()}
            for where, table in host.rib.tables.items()
            if len(table.routes)
        },
        "received": {
            where: {source.name: count for source, count in table.received.items() if count}
            for where, table in host.rib.tables.items()
        },
        "gateways": host.evpn.importer.gateways("blue"),
        "forwards": [host.forwards(prefix) for prefix in ("10.64.2.0/24", "10.64.9.0/24", "10.64.1.9/32")],
    }


def prepared() -> tuple[Host, Source]:
    host = Host()
    leaf1 = host.up(1)
    host.workload("10.64.5.5/32", mac="02:00:00:00:00:05")
    host.hear(leaf1, prefix_route("10.64.2.0/24", host="10.255.8.8:1001"), gateway="10.64.1.9")
    host.hear(leaf1, host_route("10.64.1.9", host="10.255.8.8:1001"))
    return host, host.up(2)


def spoken(speak: Speak) -> tuple[Host, Source]:
    """A host and its neighbor that is about to say `speak`."""
    host, leaf2 = prepared()
    if speak is then:
        first(host, leaf2)
    return host, leaf2


@pytest.mark.hypothesis
@pytest.mark.parametrize("speak", [first, then], ids=["routes come", "routes change and go"])
def test_whatever_raises_the_end_of_the_session_removes_all_that_it_said(speak: Speak) -> None:
    expected, silent = prepared()
    expected.down(silent)
    expected_state = state(expected)
    calls: Counter[Call] = Counter()
    host, leaf2 = spoken(speak)
    with traced(lambda call: calls.update((call,))):
        speak(host, leaf2)
    every = not hypothesis.settings().derandomize
    contained, fatal = set(), set()
    for call, count in calls.items():
        for number in range(1, count + 1) if every else sorted({1, count}):
            host, leaf2 = spoken(speak)
            try:
                with failing_at(call, number):
                    speak(host, leaf2)
                raise AssertionError(f"{call} was not called {number} times")
            except Injected:
                contained.add(call[0].split(".", 3)[3])
            except SharedStateBroken:
                fatal.add(call[0].split(".", 3)[3])
                continue
            host.turn()
            host.down(leaf2)
            assert state(host) == expected_state, f"after {call} raised in call {number}"
    assert {"InternedPaths.has_come", "Decisions.decision", "Importer._put"} <= contained
    assert {"Tables.commit", "KeyedRoutes.settle"} <= fatal
