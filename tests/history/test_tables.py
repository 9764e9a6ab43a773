"""The routes of an earlier time, to a prefix and what is inside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bgpd.cli.past import changes_of_files
from bgpd.history.reading import NotKnown
from bgpd.history.tables import AskedRoutes, routes
from bgpd.journal.store import Sought
from bgpd.model.attributes import Attributes
from bgpd.model.views.explained import PastRoutesView
from bgpd.model.views.queries import PastQuery
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
