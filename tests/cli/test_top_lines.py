"""What `bgpd top` shows: never more than fits, what matters most on top, and state in words beside colour."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpd.cli.top_lines import KEPT_WINDOWS, Seen, Style, Window, Windows, neighbor_lines, screen
from bgpd.model.views.host import HealthView, TableOverview
from tests.scripted_backend import LEAF1, LEAF2, NOW, ScriptedBackend

pytestmark = pytest.mark.hypothesis


def overview(**changed: Any) -> dict[str, Any]:
    view = msgspec.structs.replace(ScriptedBackend().overview(), **changed)
    return msgspec.to_builtins(view)  # type: ignore[no-any-return]


def neighbor(**changed: Any) -> dict[str, Any]:
    return msgspec.to_builtins(msgspec.structs.replace(LEAF1, **changed))  # type: ignore[no-any-return]


def event(number: int) -> dict[str, Any]:
    return {"at": NOW, "level": "warning", "event": f"event.{number}", "fields": {"text": "x" * 100}}


def seen(view: dict[str, Any], events: int = 0) -> Seen:
    found = Seen()
    found.take(view, [event(number) for number in range(events)], NOW)
    return found


def texts(found: Seen, *, width: int = 80, height: int = 23, now: float = NOW) -> list[str]:
    return [line.text for line in screen(found, width=width, height=height, now=now)]


@settings(max_examples=200)
@given(
    width=st.integers(1, 200),
    height=st.integers(1, 80),
    neighbors=st.integers(0, 64),
    tables=st.integers(0, 20),
    reasons=st.lists(st.text(max_size=200), max_size=6),
    events=st.integers(0, 100),
    problem=st.text(max_size=300),
)
def test_nothing_is_wider_or_longer_than_the_terminal(
    width: int, height: int, neighbors: int, tables: int, reasons: list[str], events: int, problem: str
) -> None:
    found = seen(
        overview(
            verdict=" ".join(reasons),
            health=HealthView(ready=not reasons, warnings=reasons, waiting_for=reasons),
            neighbors=[LEAF2] * neighbors,
            neighbors_total=neighbors + 7,
            tables=[TableOverview(vrf=f"v{one}", desired=one) for one in range(tables)],
        ),
        events,
    )
    if problem:
        found.fail(problem, NOW)
    lines = screen(found, width=width, height=height, now=NOW + 5)
    assert len(lines) <= height
    assert all(len(line.text) <= max(width, 3) and line.text.isprintable() for line in lines)


def test_on_80_by_24_all_parts_have_room() -> None:
    many = [neighbor(name=f"leaf{number}") for number in range(20)]
    view = overview() | {"neighbors": many, "neighbors_total": 20}
    lines = texts(seen(view, events=50))
    assert len(lines) == 23
    assert lines[1] == "! ready, without a session with leaf2"
    assert sum(line.startswith("+ leaf") for line in lines) >= 3
    assert any(line.strip().startswith("... and ") and line.endswith("more: n") for line in lines)
    assert "! kernel: wanted 12, installed 11, waiting 1" in lines
    assert "! workloads: announced 1, withheld 1 (static: 1 announced, 1 pending)" in lines
    assert sum("event." in line for line in lines) >= 3
    assert "event.49" in lines[-1]


def test_of_neighbors_that_have_no_room_the_number_is_told() -> None:
    view = overview() | {"neighbors": [neighbor()] * 64, "neighbors_total": 500}
    lines = texts(seen(view))
    shown = sum(line.startswith("+ leaf1") for line in lines)
    assert f"  ... and {500 - shown} more: n" in lines


def test_in_40_columns_the_neighbors_states_are_all_there() -> None:
    lines = texts(seen(overview(), events=20), width=40, height=15)
    assert "  Neighbor  State        Since" in lines
    assert [line[:23] for line in lines if "leaf" in line][1:] == ["! leaf2     active     ", "+ leaf1     established"]


@pytest.mark.parametrize(
    ("changed", "mark", "note"),
    [
        ({}, "+", ""),
        ({"bfd": "up"}, "+", "BFD up"),
        ({"bfd": "down"}, "!", "BFD down"),
        ({"state": "idle", "last_error": "refused"}, "!", "refused"),
        ({"last_error": "refused"}, "+", ""),
        ({"stale_since": NOW - 3, "stale_until": NOW + 60}, "~", "stale for 3s, kept for 60 s more"),
        (
            {"expectation": "unmet", "hostname": "leaf9", "expected_hostname": "leaf1"},
            "!",
            "is leaf9, not leaf1",
        ),
        ({"guest": "metallb"}, "+", "guest metallb"),
    ],
)
def test_each_neighbor_bears_a_mark_and_says_why(changed: dict[str, Any], mark: str, note: str) -> None:
    view = overview() | {"neighbors": [neighbor(**changed)]}
    _, line = neighbor_lines(view, NOW, width=120)
    assert line.text.startswith(f"{mark} leaf1")
    assert line.text.partition("3       2")[2].strip() == note


def test_silence_of_the_daemon_is_told_first_with_what_was_known() -> None:
    found = seen(overview(), events=1)
    found.fail("bgpd is not running", NOW + 1)
    found.fail("bgpd is not running", NOW + 2)
    first, *rest = screen(found, width=100, height=23, now=NOW + 8)
    assert (first.text, first.style) == ("NO ANSWER for 7s: bgpd is not running; what follows is older", Style.BAD)
    assert any("leaf2" in line.text for line in rest)
    found.take(overview(), [], NOW + 9)
    assert "NO ANSWER" not in texts(found)[0]


def test_before_the_first_answer_only_the_problem_is_there() -> None:
    found = Seen()
    assert screen(found, width=80, height=23, now=NOW) == []
    found.fail("it starts", NOW)
    assert texts(found) == ["NO ANSWER for 0s: it starts"]


def test_times_without_wanted_routes_are_kept_with_the_most_that_were_missing() -> None:
    windows = Windows()
    for now, missing in ((0, 0), (1, 5), (2, 9), (3, 1), (5, 0), (6, 0), (7, 2)):
        windows.take(missing, float(now))
    assert list(windows.past) == [Window(1.0, 4.0, 9)]
    assert windows.present == Window(7.0, 0.0, 2)
    for number in range(10):
        windows.take(number % 2, 10.0 + number)
    assert len(windows.past) == KEPT_WINDOWS


def test_a_route_that_another_program_has_is_not_missing() -> None:
    table = TableOverview(desired=10, installed=8, blocked=2)
    lines = texts(seen(overview(tables=[table])))
    assert "+ kernel: wanted 10, installed 8, kept out 2" in lines


def test_refused_routes_are_shown_first_and_of_many_vrfs_the_number() -> None:
    tables = [TableOverview(vrf=f"v{number}", desired=1, installed=1) for number in range(9)]
    tables[7] = TableOverview(vrf="v7", desired=3, installed=1, failed=2)
    lines = texts(seen(overview(tables=tables)))
    kernel = [line for line in lines if "wanted" in line]
    assert kernel[0] == "! v7: wanted 3, installed 1, refused 2"
    assert "  ... and 5 more VRFs: bgpd show vrfs" in lines


def test_services_that_are_all_announced_are_well() -> None:
    assert "+ services: 2 announced" in texts(seen(overview(services={"announced": 2, "withheld": 0})))
    assert "! services: 2 announced, 1 withheld" in texts(seen(overview(services={"announced": 2, "withheld": 1})))
