"""The routes of an earlier time, to a prefix and what is inside it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bgpd.cli.past import changes_of_files
from bgpd.history.answers import about, past
from bgpd.history.changes import Asked, changes
from bgpd.history.listings import AskedTable, table
from bgpd.history.reading import NotKnown, time_text
from bgpd.history.records import Tenants
from bgpd.history.tables import AskedRoutes, routes
from bgpd.journal.store import Sought
from bgpd.model.attributes import Attributes
from bgpd.model.views.explained import PastRoutesView
from bgpd.model.views.host import EventView
from bgpd.model.views.queries import PastQuery, PastTableQuery
from tests.daemon.wire_peer import update, withdrawal
from tests.history.rig import VRF, Recorded
from tests.rib.build import LOCAL, V4, key

OUTER, INNER, OTHER = "10.1.0.0/16", "10.1.2.0/24", "10.2.0.0/16"


def shown(path: Path, prefix: str, at: float, **fields: object) -> PastRoutesView:
    return routes(path, AskedRoutes(query=PastQuery(prefix=prefix, at=at, **fields)))  # type: ignore[arg-type]


def prefixes(view: PastRoutesView) -> list[str]:
    return [one.prefix for one in view.routes]


@pytest.fixture
def recorded(tmp_path: Path) -> tuple[Path, float]:
    """All three are announced, at the time that is given; ten seconds later two are withdrawn."""
    history = Recorded(tmp_path)
    history.up("leaf1")
    history.now += 1
    history.hear("leaf1", update((OTHER, INNER, OUTER), asn=65201, next_hop="10.0.1.2"))
    history.write()
    at = history.now
    history.now += 10
    history.hear("leaf1", withdrawal(INNER, OTHER))
    history.write()
    return tmp_path, at


def test_routes_are_those_of_then_in_order(recorded: tuple[Path, float]) -> None:
    path, at = recorded
    then = shown(path, "10.0.0.0/8", at + 1, longer_prefixes=True)
    assert prefixes(then) == [OUTER, INNER, OTHER]
    assert (then.total, then.remark) == (3, "")
    assert then.known_from <= at
    assert [one.source for one in then.routes[0].candidates] == ["leaf1"]
    assert prefixes(shown(path, "10.0.0.0/8", at + 11, longer_prefixes=True)) == [OUTER]


def test_prefix_alone_and_what_covers_an_address(recorded: tuple[Path, float]) -> None:
    path, at = recorded
    assert prefixes(shown(path, OUTER, at + 1)) == [OUTER]
    assert prefixes(shown(path, "10.1.2.3", at + 1)) == [OUTER, INNER]
    assert prefixes(shown(path, "10.9.9.9", at + 1)) == []


def test_routes_of_another_family_than_the_prefix_has_are_none(recorded: tuple[Path, float]) -> None:
    path, at = recorded
    assert prefixes(shown(path, OUTER, at + 1, family="ipv4-unicast")) == [OUTER]
    other = shown(path, OUTER, at + 1, family="ipv6-unicast")
    assert (prefixes(other), other.total) == ([], 0)
    with pytest.raises(NotKnown, match="is no family"):
        shown(path, OUTER, at + 1, family="ipv5")


def test_the_first_ones_are_shown_and_all_are_counted(recorded: tuple[Path, float]) -> None:
    path, at = recorded
    view = shown(path, "0.0.0.0/0", at + 1, longer_prefixes=True, limit=2)
    assert (len(view.routes), view.total) == (2, 3)


def test_what_is_not_known_says_why(recorded: tuple[Path, float], monkeypatch: pytest.MonkeyPatch) -> None:
    path, at = recorded
    with pytest.raises(NotKnown, match="the history of routes begins at"):
        shown(path, OUTER, at - 3600)
    with pytest.raises(NotKnown, match=r'"10\.1\.0\.0/99" is no prefix'):
        shown(path, "10.1.0.0/99", at)
    monkeypatch.setattr("bgpd.history.prefixes.MOST_KEYS", 2)
    with pytest.raises(NotKnown, match=r"prefixes are inside 10\.0\.0\.0/8"):
        shown(path, "10.0.0.0/8", at + 1, longer_prefixes=True)


def test_all_vrfs_are_those_that_the_history_names_also_where_a_vrf_has_nothing_but_workloads(tmp_path: Path) -> None:
    history = Recorded(tmp_path)
    history.up("leaf1")
    history.now += 1
    history.rib.announce_local(LOCAL, V4, [key(INNER)], Attributes.of(), vrf=VRF)
    history.write()
    query = PastQuery(prefix=OUTER, at=history.now, longer_prefixes=True)
    assert [(one.vrf, one.prefix) for one in routes(tmp_path, AskedRoutes(query=query, vrfs=())).routes] == [
        (VRF, INNER)
    ]
    found = changes_of_files(tmp_path, Sought(prefix=INNER))
    assert [one.fields["vrf"] for one in found if one.event == "route.announced"] == [VRF]


def with_tenants(tmp_path: Path) -> Recorded:
    """The main table has INNER from leaf1, `VRF` had it as its own; the VRF "empty" had nothing. Both are gone."""
    history = Recorded(tmp_path)
    history.history.stands(Tenants(history.now, [("empty", bytes(8), []), (VRF, bytes(8), [])]))
    history.up("leaf1")
    history.now += 1
    history.hear("leaf1", update((INNER,), asn=65201, next_hop="10.0.1.2"))
    history.rib.announce_local(LOCAL, V4, [key(INNER)], Attributes.of(), vrf=VRF)
    history.history.stands(Tenants(history.now, [("new", bytes(8), [])]))
    history.write()
    return history


def test_vrfs_that_are_not_configured_any_more_are_looked_at_too(tmp_path: Path) -> None:
    """A reload that renames a VRF does not make its former routes unheard of."""
    now = with_tenants(tmp_path).now
    asked = AskedRoutes(query=PastQuery(prefix=INNER, at=now), vrfs=("", "new"), also_former=True)
    assert [one.vrf for one in routes(tmp_path, asked).routes] == ["", VRF]
    found = changes(tmp_path, Asked(sought=Sought(prefix=INNER), vrfs=("", "new"), also_former=True))
    assert [one.fields.get("vrf", "") for one in found if one.event == "route.announced"] == ["", VRF]


def test_a_vrf_that_never_was_is_told_and_one_that_had_nothing_is_not(tmp_path: Path) -> None:
    now = with_tenants(tmp_path).now
    address = bytes((10, 1, 2, 3))

    def ask(vrf: str) -> None:
        assert past(tmp_path, address, vrf, at=now, events=False).verdict.startswith("no route")
        asked = AskedRoutes(query=PastQuery(prefix=INNER, at=now, vrf=vrf), vrfs=(vrf,))
        assert routes(tmp_path, asked).routes == []
        assert table(tmp_path, AskedTable(kind="workloads", query=PastTableQuery(at=now, vrf=vrf))).rows == []

    ask("empty")
    with pytest.raises(NotKnown, match=rf'there is no VRF "nope".* it has: empty, {VRF}, new'):
        past(tmp_path, address, "nope", at=now, events=False)
    asked = AskedRoutes(query=PastQuery(prefix=INNER, at=now, vrf="nope"), vrfs=("nope",))
    with pytest.raises(NotKnown, match='there is no VRF "nope"'):
        routes(tmp_path, asked)
    with pytest.raises(NotKnown, match='there is no VRF "nope"'):
        table(tmp_path, AskedTable(kind="workloads", query=PastTableQuery(at=now, vrf="nope")))


def test_events_of_a_prefix_are_those_of_its_vrf(tmp_path: Path) -> None:
    now = with_tenants(tmp_path).now
    view = past(tmp_path, bytes((10, 1, 2, 3)), VRF, at=now, events=False)
    of_main, of_vrf = (
        EventView(sequence=0, at=now, level="info", event="x", fields=fields)
        for fields in ({"prefix": INNER}, {"prefix": INNER, "vrf": VRF})
    )
    assert about(view, [of_main, of_vrf]) == [of_vrf]


def test_a_time_in_a_sentence_says_how_far_from_utc_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon makes the sentence; who reads it may live by another time."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        assert time_text(0.0) == "1970-01-01 05:30:00+05:30"
    finally:
        monkeypatch.undo()
        time.tzset()
